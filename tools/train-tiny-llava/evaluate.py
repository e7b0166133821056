"""Accuracy on fresh held-out scenes, with all tokens and after reduction. python evaluate.py CHECKPOINT PER_KIND

CHECKPOINT: a folder that save.py wrote. At least PER_KIND questions of each kind on ordinary scenes, and a quarter as many on crowded ones.
An answer is right when greedy decoding gives it word for word; that is when every answer token is the argmax after the right prefix,
so one pass scores all questions of a picture. The selections are written anew here, on purpose: they check the packages."""
import collections, sys
import numpy as np, torch
from transformers import LlavaForConditionalGeneration
import world
from model import PATCHES, load_tokenizer, pixels
from train_lm import PICTURE, language_model, lay_out, prefix_and_suffix


def top(score, count): return np.sort(np.argsort(-score, kind='stable')[:count])


def uniform(count):
    g = world.GRID
    h = min(max(round(count ** .5), -(-count // g)), min(g, count))
    columns = [((i + 1) * count // h - i * count // h) for i in range(h)]
    return np.array([int((i + .5) * g / h) * g + int((j + .5) * g / c) for i, c in enumerate(columns) for j in range(c)])


def rows(score, count):
    return np.concatenate([np.arange(world.GRID) + world.GRID * r for r in np.sort(np.argsort(-score.reshape(world.GRID, -1).sum(1), kind='stable')[:count])])


@torch.no_grad()
def right(model, prefix, feature, laid):
    ids, labels, segments, positions, *_ = laid
    lm, start = model.model.language_model, len(prefix) + len(feature)
    embeds = torch.cat([lm.embed_tokens(torch.tensor([prefix])), model.model.multi_modal_projector(feature[None]), lm.embed_tokens(torch.tensor([ids]))], 1)
    s = torch.tensor([PICTURE] * start + list(segments))
    mask = ((s[:, None] == s) | (s == PICTURE)) & torch.ones(len(s), len(s), dtype=torch.bool).tril()
    where = torch.tensor([*range(start), *(p + start for p in positions)])[None]
    z = model.lm_head(lm.norm(language_model(lm, embeds, mask[None, None], where)[-1][:, start:-1]))[0].argmax(-1)
    target, owner = torch.tensor(labels[1:]), torch.tensor(segments[1:])
    wrong = (z != target) & (target != -100)
    return [not bool((wrong & (owner == j)).any()) for j in range(max(segments) + 1)]


if __name__ == '__main__':
    torch.set_num_threads(2)
    tokenizer, per_kind = load_tokenizer(), int(sys.argv[2])
    prefix, after = prefix_and_suffix(tokenizer)
    model = LlavaForConditionalGeneration.from_pretrained(sys.argv[1], attn_implementation='eager', dtype=torch.float32).eval()
    table, seen, share, cover, given = collections.defaultdict(lambda: collections.defaultdict(list)), collections.Counter(), [], [], []
    seed = world.VALIDATION_SEED
    while any(seen[k] < per_kind for k in world.KINDS) or seen['crowded'] < per_kind // 4:
        scene, rng = world.make_scene(seed), np.random.default_rng(seed)
        seed += 1
        asked = [q for q in (world.ask(rng, scene, k) for k in world.KINDS * 2) if q]
        laid = lay_out(tokenizer, after, asked)
        asked = asked[:max(laid[2]) + 1]
        with torch.no_grad():
            o = model.model.vision_tower(pixel_values=pixels(np.asarray(scene.image)[None]), output_hidden_states=True, output_attentions=True)
        maps = [a[0].double().mean(0).numpy()[1:, 1:] for a in o.attentions]
        received = [a.mean(0) for a in maps]
        share.append([np.sort(r)[::-1][:PATCHES // 4].sum() / r.sum() for r in received])
        s1, s2 = maps[-2].mean(1), received[-2]
        score = s1 if s1.var() > s2.var() else s2
        given.append(s1.var() > s2.var())
        content = np.nonzero(scene.color + scene.digit)[0]
        cover.append(np.isin(content, top(score, PATCHES // 4)).mean() if len(content) else 1)
        feature, draw = o.hidden_states[-2][0, 1:], np.random.default_rng(seed).permutation(PATCHES)
        chosen = {'none': np.arange(PATCHES)}
        for count in (192, 128, 64, 28, 15):
            chosen |= {f'rank {count}': top(score, count), f'random {count}': np.sort(draw[:count]), f'uniform {count}': uniform(count)}
            if count >= 28: chosen[f'row {count}'] = rows(score, count // world.GRID)
        for name, keep in chosen.items():
            for q, ok in zip(asked, right(model, prefix, feature[torch.from_numpy(keep)], laid)):
                table[name]['crowded' if scene.crowded else q.kind].append(ok)
        for q in asked: seen['crowded' if scene.crowded else q.kind] += 1
    print('attention held by the top 25 % of the tokens, per layer:', np.mean(share, 0).round(3), '; "given" chosen:', round(float(np.mean(given)), 3),
          '; content patches among the top 25 %:', round(float(np.mean(cover)), 3))
    print('questions', dict(seen))
    print('| tokens | overall | ' + ' | '.join([*world.KINDS, 'crowded']) + ' |\n|' + '---|' * (len(world.KINDS) + 3))
    for name, kinds in table.items():
        mean = [np.mean(kinds[k]) for k in world.KINDS]
        print(f'| {name} | ' + ' | '.join(f'{v:.3f}' for v in [np.mean(mean), *mean, np.mean(kinds['crowded'])]) + ' |', flush=True)
