/**
 * The memory that a sweep over methods takes on an encoder of CLIP-L/336's size with random weights (1.2 GB):
 * each method wants other outputs of the encoder, so each has its own form of it, and forms that were used
 * longest ago are closed where they are too many.
 */
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TokenReducer } from '@foveate/core';
import { fopruRank } from '@foveate/fopru-rank';
import { Lvlm } from '@foveate/lvlm';
import { pooling } from '@foveate/pooling';
import { prumerge } from '@foveate/prumerge';
import { LARGE_PICTURE, writeLargeEncoder } from '../test/large-encoder.js';

/** Each reads other signals of the encoder. */
const METHODS: Readonly<Record<string, TokenReducer>> = {
  'fopru-rank': fopruRank(),
  'fopru-rank, received alone': fopruRank({ significance: 'received' }),
  'fopru-rank, given alone': fopruRank({ significance: 'given' }),
  prumerge: prumerge(),
  pooling: pooling(),
};
const GIB = 2 ** 30;

/** The option of the process that only writes the bundle: what that takes is none of the sweep's memory. */
const WRITE = '--write';

if (process.argv[2] === WRITE) await writeLargeEncoder(process.argv[3] ?? '', 23);
else await sweep();

async function sweep(): Promise<void> {
  const bundle = await mkdtemp(path.join(tmpdir(), 'foveate-bench-'));
  try {
    spawnSync(process.execPath, [fileURLToPath(import.meta.url), WRITE, bundle], { stdio: 'inherit' });
    await using lvlm = await Lvlm.load(bundle, { cacheDirectory: path.join(bundle, 'cache') });
    const rows: Record<string, object> = {};
    for (const [name, reducer] of Object.entries(METHODS)) {
      const { memory, images } = await lvlm.generate({
        images: [LARGE_PICTURE],
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
