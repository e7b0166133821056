"""Phase 1: the vision tower alone. python train_tower.py SCENES OUT STEPS_ON_SOME STEPS_ON_ALL [LR]; resumes from OUT/state.pt.

Linear heads (dropped afterwards) ask every patch of hidden_states[-2] what it shows and where it is, and the CLS token what the
picture holds. One more asks every patch for the centroid of all content: a mean over the content patches, which softmax attention
computes by looking at each of them alike. It is what makes the attention of the feature layer gather on content, and tells no
answer to any question. The first steps look at 96 patches (content first, then random ones), which costs a third; the rest at all 256."""
import math, os, sys, time
import numpy as np, torch
from torch import nn
import torch.nn.functional as F
import scene_cache, world
from model import PATCHES, load_tokenizer, make_model, tower

BATCH, SOME = 32, 96
HEADS = dict(color=1 + len(world.COLORS), shape=1 + len(world.SHAPES), digit=11, place=1 + world.MAX_DIGITS, center=2, row=world.GRID, column=world.GRID)
WEIGHT = dict(color=1, shape=1, digit=1, place=.7, center=.5, row=.4, column=.4)
HELD = len(world.COLORS) * len(world.SHAPES) + 10


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Linear(128, sum(HEADS.values()) + 2)
        self.cls = nn.ModuleList([nn.Linear(128, HELD), nn.Linear(128, HELD)])


def picture_holds(meta):
    out = torch.zeros(len(meta), HELD)
    for i, (things, number, _) in enumerate(meta):
        for t in things: out[i, world.COLOR_NAMES.index(t.color) * len(world.SHAPES) + world.SHAPES.index(t.shape)] = 1
        for d in number or '': out[i, HELD - 10 + int(d)] = 1
    return out


def losses(vision, heads, images, labels, centroid, holds, keep):
    h, pooled = tower(vision, images, keep)
    *logits, center = heads.patch(h[:, 1:]).split([*HEADS.values(), 2], -1)
    row, column = keep // world.GRID, keep % world.GRID
    targets = dict(zip(HEADS, [*labels.unbind(1), row, column]))
    out = {}
    for (name, classes), z in zip(HEADS.items(), logits):
        weight = torch.ones(classes)
        if name not in ('row', 'column'): weight[0] = .1
        out[name] = F.cross_entropy(z.flatten(0, 1), targets[name].flatten(), weight=weight) * WEIGHT[name]
    out['centroid'] = 2 * F.mse_loss(center, centroid[:, None].expand_as(center))
    out['cls'] = 5 * F.binary_cross_entropy_with_logits(heads.cls[0](pooled), holds) + 2.5 * F.binary_cross_entropy_with_logits(heads.cls[1](h[:, 0]), holds)
    right = {n: (z.argmax(-1) == targets[n]) for (n, z) in zip(HEADS, logits)}
    return out, right


if __name__ == '__main__':
    folder, out, some, full = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    base = float(sys.argv[5]) if len(sys.argv) > 5 else 1.2e-3
    torch.set_num_threads(2); torch.manual_seed(0)
    os.makedirs(out, exist_ok=True)
    images, labels, centroids, meta = scene_cache.load(folder)
    vision, heads = make_model(load_tokenizer().get_vocab_size()).model.vision_tower, Heads()
    parameters = [*vision.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=base, weight_decay=.02, betas=(.9, .98), fused=True)
    step, seen = 0, {}
    if os.path.exists(f'{out}/state.pt'):
        s = torch.load(f'{out}/state.pt')
        vision.load_state_dict(s['vision']); heads.load_state_dict(s['heads']); step = s['step']
        if 'optimizer' in s: optimizer.load_state_dict(s['optimizer'])

    def save():
        torch.save(dict(vision=vision.state_dict(), heads=heads.state_dict(), optimizer=optimizer.state_dict(), step=step), f'{out}/state.tmp')
        os.replace(f'{out}/state.tmp', f'{out}/state.pt')

    run = torch.compile(losses, dynamic=False)
    began, first, saved = time.time(), step, time.time()
    while step < some + full:
        lr = base * min(1, (step + 1) / 100) * (.5 * (1 + math.cos(math.pi * step / (some + full))) * .98 + .02)
        for g in optimizer.param_groups: g['lr'] = lr
        rng = np.random.default_rng((1, step))
        ix = np.sort(rng.integers(0, len(images), BATCH))
        x, y = torch.from_numpy(images[ix]), torch.from_numpy(labels[ix]).long()
        keep = torch.arange(PATCHES).expand(BATCH, -1)
        if step < some:
            score = torch.from_numpy(rng.random((BATCH, PATCHES), dtype=np.float32)) + 2 * (y[:, :3].sum(1) > 0)
            keep = score.topk(SOME, 1).indices.sort(1).values
            y = torch.gather(y, 2, keep[:, None].expand(-1, y.shape[1], -1))
        parts, right = run(vision, heads, x, y, torch.from_numpy(centroids[ix]), picture_holds([meta[i] for i in ix]), keep)
        optimizer.zero_grad()
        sum(parts.values()).backward()
        nn.utils.clip_grad_norm_(parameters, 1.)
        optimizer.step(); step += 1
        if step % 10 == 0:
            content, written = y[:, 0] > 0, y[:, 2] > 0
            now = dict(thing=(right['color'] & right['shape'])[content].float().mean(), digit=(right['digit'] & right['place'])[written].float().mean(),
                       row=right['row'].float().mean(), center=right['center'][y[:, 4] > 0].float().mean(), loss=sum(parts.values()), cls=parts['cls'], centroid=parts['centroid'])
            now = {k: v.item() for k, v in now.items()}
            for k, v in now.items():
                if math.isfinite(v): seen[k] = seen.get(k, v) * .9 + .1 * v
        if step % 100 == 0:
            print(step, f'{BATCH * (step - first) / (time.time() - began):.1f} images/s', {k: round(v, 4) for k, v in seen.items()}, flush=True)
        if step == some: began, first = time.time(), step
        if time.time() - saved > 180: save(); saved = time.time()
    save()
    print('done', step)
