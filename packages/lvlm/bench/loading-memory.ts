/**
 * The memory that loading takes against the size of the weights, on an encoder of CLIP-L/336's width with
 * random weights, which lie inside its graph or beside it. Each bundle is loaded in a process of its own,
 * whose first call opens the encoder.
 */
import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Lvlm } from '@foveate/lvlm';
import { withExternalWeights } from '../test/external-weights.js';
import { LARGE_PICTURE, writeLargeEncoder } from '../test/large-encoder.js';

const LAYERS = [1, 5, 11, 23];
const MIB = 2 ** 20;

const [job, ...folders] = process.argv.slice(2);
if (job === 'write') await write(folders[0], folders[1], Number(folders[2]));
else if (job === 'load') await load(folders[0]);
else await measure();

async function write(inside: string, beside: string, layers: number): Promise<void> {
  await writeLargeEncoder(inside, layers);
  await withExternalWeights(inside, beside, 1);
}

/** Prints the peaks of this process in MiB: before, after the load, after the first call. */
async function load(bundle: string): Promise<void> {
  const peak = (): number => process.resourceUsage().maxRSS / 1024;
  const peaks = [peak()];
  await using lvlm = await Lvlm.load(bundle, { cacheDirectory: path.join(bundle, 'cache') });
  peaks.push(peak());
  await lvlm.generate({ images: [LARGE_PICTURE], prompt: 'x', maxNewTokens: 1 });
  peaks.push(peak());
  process.stdout.write(JSON.stringify(peaks));
}

function run(...parameters: string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, [
    fileURLToPath(import.meta.url),
    ...parameters,
  ]);
  if (status !== 0) throw new Error(String(stderr));
  return String(stdout);
}

async function measure(): Promise<void> {
  const folder = await mkdtemp(path.join(tmpdir(), 'foveate-bench-'));
  try {
    const rows: object[] = [];
    for (const layers of LAYERS) {
      const places = {
        'inside the graph': path.join(folder, `${layers}`),
        beside: path.join(folder, `${layers}b`),
      };
      run('write', ...Object.values(places), `${layers}`);
      const { size } = await stat(path.join(places['inside the graph'], 'onnx/vision_encoder.onnx'));
      for (const [weights, bundle] of Object.entries(places)) {
        const [start, loaded, called] = (JSON.parse(run('load', bundle)) as number[]).map(Math.round);
        rows.push({ 'encoder MiB': Math.round(size / MIB), weights, start, loaded, called });
        await rm(bundle, { recursive: true });
      }
    }
    console.log('Peak resident memory in MiB: at the start, after the load, after the first call');
    console.table(rows);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
