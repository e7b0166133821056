"""Training scenes, drawn once with all cores and kept on disk. python scene_cache.py DIR COUNT"""
import os, pickle, sys
from concurrent.futures import ProcessPoolExecutor
import numpy as np
import world

LABELS = ['color', 'shape', 'digit', 'place', 'center']


def draw(seed):
    scene = world.make_scene(seed)
    labels = np.stack([getattr(scene, name) for name in LABELS]).astype(np.uint8)
    return np.asarray(scene.image), labels, scene.centroid, (scene.things, scene.number, scene.crowded)


def load(folder):
    """images [n, 128, 128, 3] uint8, labels [n, 5, 256] uint8, centroid [n, 2] and (things, number, crowded) of each scene."""
    arrays = [np.load(f'{folder}/{name}.npy', mmap_mode='r') for name in ('images', 'labels', 'centroids')]
    with open(f'{folder}/meta.pickle', 'rb') as f: return *arrays, pickle.load(f)


if __name__ == '__main__':
    folder, count = sys.argv[1], int(sys.argv[2])
    os.makedirs(folder, exist_ok=True)
    images = np.lib.format.open_memmap(f'{folder}/images.npy', 'w+', np.uint8, (count, world.SIZE, world.SIZE, 3))
    labels = np.lib.format.open_memmap(f'{folder}/labels.npy', 'w+', np.uint8, (count, len(LABELS), world.GRID ** 2))
    centroids, meta = np.zeros((count, 2), np.float32), []
    with ProcessPoolExecutor() as pool:
        for i, (image, label, centroid, facts) in enumerate(pool.map(draw, range(world.TRAIN_SEED, world.TRAIN_SEED + count), chunksize=256)):
            images[i], labels[i], centroids[i] = image, label, centroid
            meta.append(facts)
    np.save(f'{folder}/centroids.npy', centroids)
    with open(f'{folder}/meta.pickle', 'wb') as f: pickle.dump(meta, f)
    print(count, 'scenes')
