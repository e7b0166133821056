/**
 * The memory that a sweep over methods takes on an encoder of CLIP-L/336's size with random weights (1.2 GB):
 * each method wants other outputs of the encoder, so each has its own form of it, and forms that were used
 * longest ago are closed where they are too many.
 */
import { spawnSync } from 'node:child_process';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TokenReducer } from '@foveate/core';
import { fopruRank } from '@foveate/fopru-rank';
import { Lvlm, type RawImage } from '@foveate/lvlm';
import { pooling } from '@foveate/pooling';
import { prumerge } from '@foveate/prumerge';
import { clipGraph } from '../test/clip-graph.js';

const FIXTURE = fileURLToPath(new URL('../../fixtures/random-llava', import.meta.url)); // from .reports/bench
const SIZES = { layers: 23, width: 1024, heads: 16, inner: 4096, imageSize: 336, patchSize: 14, output: 24 };
/** Each reads other signals of the encoder. */
const METHODS: Readonly<Record<string, TokenReducer>> = {
  'fopru-rank': fopruRank(),
  'fopru-rank, received alone': fopruRank({ significance: 'received' }),
  'fopru-rank, given alone': fopruRank({ significance: 'given' }),
  prumerge: prumerge(),
  pooling: pooling(),
};
const GIB = 2 ** 30;

/** The small random bundle with the large encoder. */
async function writeBundle(folder: string): Promise<void> {
  await cp(FIXTURE, folder, { recursive: true });
  await writeFile(path.join(folder, 'onnx/vision_encoder.onnx'), clipGraph(SIZES));
  const change = async (name: string, values: object): Promise<void> => {
    const file = path.join(folder, name);
    const json = JSON.parse(await readFile(file, 'utf8')) as Record<string, object>;
    await writeFile(file, JSON.stringify({ ...json, ...values }));
  };
  const { imageSize, patchSize, layers } = SIZES;
  await change('config.json', {
    vision_config: { image_size: imageSize, patch_size: patchSize, num_hidden_layers: layers + 1 },
  });
  await change('preprocessor_config.json', {
    size: { shortest_edge: imageSize },
    crop_size: { height: imageSize, width: imageSize },
  });
  await change('processor_config.json', { patch_size: patchSize });
}

/** The option of the process that only writes the bundle: what that takes is none of the sweep's memory. */
const WRITE = '--write';

if (process.argv[2] === WRITE) await writeBundle(process.argv[3] ?? '');
else await sweep();

async function sweep(): Promise<void> {
  const bundle = await mkdtemp(path.join(tmpdir(), 'foveate-bench-'));
  try {
    spawnSync(process.execPath, [fileURLToPath(import.meta.url), WRITE, bundle], { stdio: 'inherit' });
    await using lvlm = await Lvlm.load(bundle, { cacheDirectory: path.join(bundle, 'cache') });
    const data = Uint8Array.from({ length: 336 * 336 * 3 }, (_, i) => (i * 31) % 251);
    const image: RawImage = { data, width: 336, height: 336, channels: 3 };
    const rows: Record<string, object> = {};
    for (const [name, reducer] of Object.entries(METHODS)) {
      const { memory, images } = await lvlm.generate({
        images: [image],
        prompt: 'x',
        reducers: [reducer],
        maxNewTokens: 1,
      });
      rows[name] = {
        tokens: images[0].outputTokens,
        'peak RSS GiB': ((memory.peakRssBytes ?? NaN) / GIB).toFixed(2),
      };
      if (process.stderr.isTTY) process.stderr.write(`\r${name}\x1b[K`);
    }
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
    console.log('Peak resident memory of each call of a sweep, one after the other in one process');
    console.table(rows);
  } finally {
    await rm(bundle, { recursive: true, force: true });
  }
}
