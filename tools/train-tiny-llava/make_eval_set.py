"""Write the shipped evaluation set. python make_eval_set.py OUT   (OUT/questions.jsonl and OUT/images/*.png)

240 ordinary scenes with 4 questions each, every kind as often as the others, and 32 crowded ones. Seeds start at SHIPPED_SEED: no scene of
training or validation is among them. The same files come out every time."""
import collections, json, os, sys
import numpy as np
import world

ORDINARY, CROWDED, EACH = 240, 32, 4


def scenes(crowded, count):
    seed, found = world.SHIPPED_SEED, 0
    while found < count:
        scene = world.make_scene(seed)
        if scene.crowded == crowded: found += 1; yield seed, scene
        seed += 1


if __name__ == '__main__':
    out = sys.argv[1]
    os.makedirs(f'{out}/images', exist_ok=True)
    lines, asked = [], collections.Counter()
    for number, (seed, scene) in enumerate([*scenes(False, ORDINARY), *scenes(True, CROWDED)], 1):
        rng, image, texts = np.random.default_rng(seed), f'images/{number:04d}.png', set()
        scene.image.save(f'{out}/{image}', optimize=True)
        # The kinds asked least so far come first, so that all are asked alike.
        for kind in sorted(world.KINDS, key=lambda k: (asked[scene.crowded, k], rng.random())):
            q = world.ask(rng, scene, kind)
            if q is None: continue
            asked[scene.crowded, kind] += 1
            texts.add(q.text)
            lines.append(dict(id=f'{number:04d}-{len(texts)}', image=image, kind=kind, crowded=scene.crowded, question=q.text, answer=q.answer))
            if len(texts) == EACH: break
    with open(f'{out}/questions.jsonl', 'w') as f:
        f.writelines(json.dumps(line) + '\n' for line in lines)
    print(len(lines), 'questions', {f"{'crowded' if c else 'ordinary'} {k}": n for (c, k), n in sorted(asked.items())})
