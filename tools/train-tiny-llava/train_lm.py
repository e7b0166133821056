"""Phase 2: projector and language model on the features of the frozen tower.
python train_lm.py SCENES TOWER OUT SCHEDULE [LR]; resumes from OUT/state.pt.

SCHEDULE: steps:tokens:things[,...]. `tokens` is a count (content patches first, then random ones: only to learn faster at the start),
`all`, or `mixed` (all patches, but in every other batch 25, 50 or 75 % of them: random ones, or all content and a random part of the background). `things` is the most shapes a scene may hold, `any` includes the crowded.

Many questions share one picture in one sequence: each sees the picture and itself alone, with the positions it would have by itself,
so a pass of training computes what inference computes. A location aid (dropped afterwards) asks the hidden state after layer 3, at every
noun, for the row and column of the thing it names: it is what makes nouns bind to places quickly."""
import math, os, queue, sys, threading, time
import numpy as np, torch
from torch import nn
import torch.nn.functional as F
import scene_cache, world
from make_tokenizer import PREFIX, SPECIAL, SUFFIX
from model import PATCHES, load_tokenizer, make_model, tower

BATCH, QUESTIONS, LENGTH, SCENES = 16, 14, 272, 40_000
AID_LAYER, AID_WEIGHT = 3, .15
PICTURE, TEXT_PAD = -2, -1  # segment numbers; questions count from 0


def prefix_and_suffix(tokenizer):
    before, after = PREFIX.split('<image>')
    return [SPECIAL.index('<s>'), *tokenizer.encode(before).ids], after


def lay_out(tokenizer, after, asked):
    """Questions of one picture -> ids, labels, segments, positions after the picture, kinds, and (index, row, column) of the nouns."""
    ids, labels, segments, positions, kinds, nouns = [], [], [], [], [], []
    texts = [f'{after}{q.text}{SUFFIX}' for q in asked]
    for j, (q, e) in enumerate(zip(asked, tokenizer.encode_batch(texts))):
        answer = [*tokenizer.encode(f' {q.answer}').ids, SPECIAL.index('</s>')]
        n = len(e.ids) + len(answer)
        if len(ids) + n > LENGTH: break
        ends = {end: i for i, (_, end) in enumerate(e.offsets)}
        nouns += [(len(ids) + ends[at + len(after)], int(t.y // world.PATCH), int(t.x // world.PATCH)) for at, t in q.marks]
        ids += e.ids + answer; labels += [-100] * len(e.ids) + answer
        segments += [j] * n; positions += range(n); kinds += [world.KINDS.index(q.kind)] * n
    return ids, labels, segments, positions, kinds, nouns


def batches(data, phase, seed, out):
    """The text side of batches and their features, in a thread of its own."""
    features, labels, meta, tokenizer = data
    _, after = prefix_and_suffix(tokenizer)
    sizes = np.array([99 if crowded else len(things) for things, _, crowded in meta[:len(features)]])
    pools = {}
    step = seed
    while True:
        tokens, most = phase['now']
        rng = np.random.default_rng((2, step)); step += 1
        if most not in pools: pools[most] = np.nonzero(sizes <= most)[0]
        ix = np.sort(rng.choice(pools[most], BATCH))
        t = {k: np.full((BATCH, LENGTH), v, np.int64) for k, v in dict(ids=0, labels=-100, segments=TEXT_PAD, positions=0, kinds=0).items()}
        nouns = np.full((BATCH, LENGTH, 2), -100)
        for r, i in enumerate(ix):
            things, number, crowded = meta[i]
            asked = world.questions(rng, world.Scene(None, things, number, crowded, *[None] * 6), QUESTIONS)
            *columns, marks = lay_out(tokenizer, after, asked)
            for k, c in zip(t, columns): t[k][r, :len(c)] = c
            for at, row, column in marks: nouns[r, at] = row, column
        f = torch.from_numpy(features[ix])
        count = tokens if isinstance(tokens, int) else int(rng.choice([64, 128, 192])) if tokens == 'mixed' and rng.random() < .5 else PATCHES
        if count < PATCHES:
            score = torch.from_numpy(rng.random((BATCH, PATCHES), dtype=np.float32))
            if isinstance(tokens, int) or rng.random() < .5: score += 2 * torch.from_numpy(labels[ix][:, :3].sum(1) > 0)
            keep = score.topk(count, 1).indices.sort(1).values
            f = torch.gather(f, 1, keep[..., None].expand(-1, -1, f.shape[-1]))
        out.put((f.float(), *(torch.from_numpy(v) for v in (*t.values(), nouns))))


def whiten(model, features, content):
    """Start the projector as a whitening of the features (background weighted .15), its output centred and as long as a word embedding.
    By default the output is nearly all common mode, and colour cannot be seen after the language model's first norm."""
    p, x = model.model.multi_modal_projector, features.flatten(0, 1)
    w = torch.where(content.flatten(), 1., .15)
    mean = (x * w[:, None]).sum(0) / w.sum()
    values, vectors = torch.linalg.eigh(((x - mean) * w[:, None]).T @ (x - mean) / w.sum())
    wide = p.linear_1.weight.shape[0]
    turn = torch.linalg.qr(torch.randn(wide, x.shape[1]))[0] * 1.2 @ vectors @ torch.diag((values + 1e-3 * values.max()).rsqrt()) @ vectors.T
    with torch.no_grad():
        p.linear_1.weight.copy_(turn); p.linear_1.bias.copy_(-turn @ mean)
        nn.init.orthogonal_(p.linear_2.weight); p.linear_2.bias.zero_()
        o = p(x[torch.randperm(len(x))[:20000]])
        scale = model.model.language_model.embed_tokens.weight.norm(dim=1).mean() / (o - o.mean(0)).norm(dim=1).mean()
        p.linear_2.weight.mul_(scale); p.linear_2.bias.copy_(-o.mean(0) * scale)


def cached_features(vision, images, path):
    """hidden_states[-2] of every scene without CLS, [n, 256, 128] float16, once."""
    if os.path.exists(path): return np.load(path, mmap_mode='r')
    out = np.lib.format.open_memmap(path + '.tmp', 'w+', np.float16, (len(images), PATCHES, 128))
    run = torch.compile(tower, dynamic=False)
    with torch.no_grad():
        for i in range(0, len(images), 64):
            batch = images[i:i + 64]
            z = np.concatenate([batch, np.zeros((64 - len(batch), *batch.shape[1:]), np.uint8)])
            out[i:i + 64] = run(vision, torch.from_numpy(z))[0][:len(batch), 1:].half().numpy()
    os.replace(path + '.tmp', path)
    return np.load(path, mmap_mode='r')


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def language_model(lm, embeds, mask, positions):
    """Hidden states after each layer, [B, T, 160]: LlamaModel's own forward, written out because every question restarts its positions."""
    cos, sin = lm.rotary_emb(embeds, positions)
    cos, sin, h, out = cos[:, None], sin[:, None], embeds, []
    for layer in lm.layers:
        a, z = layer.self_attn, layer.input_layernorm(h)
        q, k, v = (f(z).unflatten(-1, (-1, a.head_dim)).transpose(1, 2) for f in (a.q_proj, a.k_proj, a.v_proj))
        o = F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v, attn_mask=mask)
        h = h + a.o_proj(o.transpose(1, 2).flatten(2))
        h = h + layer.mlp(layer.post_attention_layernorm(h))
        out.append(h)
    return out


def losses(model, aid, prefix, f, ids, labels, segments, positions, nouns):
    lm, n, count = model.model.language_model, len(f), f.shape[1]
    embeds = torch.cat([lm.embed_tokens(prefix).expand(n, -1, -1), model.model.multi_modal_projector(f), lm.embed_tokens(ids)], 1)
    start = len(prefix) + count
    s = torch.cat([torch.full((n, start), PICTURE), segments], 1)
    mask = ((s[:, :, None] == s[:, None]) | (s[:, None] == PICTURE)) & torch.ones(s.shape[1], s.shape[1], dtype=torch.bool).tril()
    where = torch.cat([torch.arange(start).expand(n, -1), positions + start], 1)
    hidden = language_model(lm, embeds, mask[:, None], where)
    z = model.lm_head(lm.norm(hidden[-1][:, start:-1]))
    target = labels[:, 1:]
    loss = F.cross_entropy(z.flatten(0, 1), target.flatten(), ignore_index=-100)
    row, column = aid(hidden[AID_LAYER - 1][:, start:]).chunk(2, -1)
    located = F.cross_entropy(row.flatten(0, 1), nouns[..., 0].flatten(), ignore_index=-100) + F.cross_entropy(column.flatten(0, 1), nouns[..., 1].flatten(), ignore_index=-100)
    return loss, located, z.argmax(-1) == target


def read_schedule(text):
    word = lambda w: int(w) if w.isdigit() else w
    return [(int(steps), word(tokens), 99 if things == 'any' else int(things)) for steps, tokens, things in (p.split(':') for p in text.split(','))]


if __name__ == '__main__':
    folder, tower_folder, out, schedule = sys.argv[1], sys.argv[2], sys.argv[3], read_schedule(sys.argv[4])
    base = float(sys.argv[5]) if len(sys.argv) > 5 else 1.3e-3
    torch.set_num_threads(2); torch.manual_seed(1)
    os.makedirs(out, exist_ok=True)
    tokenizer = load_tokenizer()
    images, labels, _, meta = scene_cache.load(folder)
    images = images[:SCENES]
    model = make_model(tokenizer.get_vocab_size())
    model.model.vision_tower.load_state_dict(torch.load(f'{tower_folder}/state.pt')['vision'])
    features = cached_features(model.model.vision_tower.eval(), images, f'{tower_folder}/features.npy')
    aid = nn.Linear(160, 2 * world.GRID)
    trained = [*aid.parameters(), *model.model.multi_modal_projector.parameters(), *model.model.language_model.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=base, weight_decay=.02, betas=(.9, .98), fused=True)
    step, seen, total, edges = 0, {}, sum(p[0] for p in schedule), np.cumsum([p[0] for p in schedule])
    if os.path.exists(f'{out}/state.pt'):
        s = torch.load(f'{out}/state.pt')
        model.load_state_dict(s['model']); aid.load_state_dict(s['aid']); step = s['step']
        if 'optimizer' in s: optimizer.load_state_dict(s['optimizer'])
    else: whiten(model, torch.from_numpy(features[:1500]).float(), torch.from_numpy(labels[:1500, :3].sum(1) > 0))

    def save():
        torch.save(dict(model=model.state_dict(), aid=aid.state_dict(), optimizer=optimizer.state_dict(), step=step), f'{out}/state.tmp')
        os.replace(f'{out}/state.tmp', f'{out}/state.pt')

    at = lambda s: schedule[min(len(schedule) - 1, int(np.searchsorted(edges, s, 'right')))][1:]
    phase, ready = {'now': at(step)}, queue.Queue(2)
    threading.Thread(target=batches, args=((features, labels, meta, tokenizer), phase, step, ready), daemon=True).start()
    prefix, _ = prefix_and_suffix(tokenizer)
    prefix, run = torch.tensor(prefix), torch.compile(losses, dynamic=False)
    began, first, saved = time.time(), step, time.time()
    while step < total:
        if phase['now'] != at(step): phase['now'] = at(step); began, first = time.time(), step; print('phase', at(step), flush=True)
        lr = base * min(1, (step + 1) / 100) * (.5 * (1 + math.cos(math.pi * step / total)) * .98 + .02)
        for g in optimizer.param_groups: g['lr'] = lr
        f, ids, label, segments, positions, kinds, nouns = ready.get()
        loss, located, right = run(model, aid, prefix, f, ids, label, segments, positions, nouns)
        optimizer.zero_grad()
        (loss + AID_WEIGHT * located).backward()
        nn.utils.clip_grad_norm_(trained, 1.)
        optimizer.step(); step += 1
        if step % 5 == 0:
            # The first token of each answer: the label before it is a token of the question.
            begins = (label[:, 1:] != -100) & (label[:, :-1] == -100)
            for i, kind in enumerate(world.KINDS):
                w = begins & (kinds[:, 1:] == i)
                if w.any(): v = right[w].float().mean().item(); seen[kind] = seen.get(kind, v) * .95 + .05 * v
            for k, v in (('loss', loss.item()), ('located', located.item())): seen[k] = seen.get(k, v) * .95 + .05 * v
        if step % 50 == 0:
            print(step, f'{BATCH * (step - first) / (time.time() - began):.1f} images/s', {k: round(v, 3) for k, v in seen.items()}, flush=True)
        if time.time() - saved > 180: save(); saved = time.time()
    save()
    print('done', step)
