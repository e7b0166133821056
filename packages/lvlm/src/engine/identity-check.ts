/**
 * Opens a patched encoder, after a check that with nothing reduced it computes what the bundle's own encoder does. The check is made once for each
 * content of the graph's file and version of the patch; only its verdict is remembered.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import {
  openOriginalEncoder,
  openPatchedEncoder,
  outputIds,
  type Encoder,
  type EncoderSettings,
} from './encoder.js';
import { IdentityCheckError } from '../platform/errors.js';
import type { PixelValues } from '../bundle/preprocessing.js';
import type { EncoderOutputs } from './protocol.js';

/** To be raised whenever a patched graph may compute something else than before. */
const PATCH_VERSION = 2;

/** How encoders are compared. */
export interface IdentityCheck {
  /** Folder of the remembered verdicts. */
  readonly cacheDirectory: string;
  /** Size in pixels of the picture to compare on. */
  readonly probe: { readonly width: number; readonly height: number };
  /** Largest difference of a feature, as a share of the largest feature: what is fused in one graph and not in the other rounds differently. */
  readonly tolerance: number;
}

/** @throws IdentityCheckError, and what {@link openPatchedEncoder} throws */
export async function openCheckedEncoder(
  wanted: EncoderOutputs,
  settings: EncoderSettings,
  check: IdentityCheck,
): Promise<Encoder> {
  const verdict = path.join(check.cacheDirectory, 'identity', `${await checkId(settings.file, wanted)}.json`);
  if (await passed(verdict)) return openPatchedEncoder(wanted, settings);

  const picture = noise(check.probe); // one session after the other: both at once would need twice the memory
  const original = await openOriginalEncoder(settings);
  const expected = (await original.encode(picture)).features.data;
  await original.release();
  const encoder = await openPatchedEncoder(wanted, settings);
  const actual = (await encoder.project((await encoder.encode(picture)).features)).data;
  const difference = relativeDifference(expected, actual);
  if (!(difference <= check.tolerance)) {
    await encoder.release();
    throw new IdentityCheckError(
      `${settings.file}: with signals added and cut at its projector, the encoder's features differ from the original's by ${difference} of their largest ` +
        `value (at most ${check.tolerance} is rounding). This graph is not understood: please report it, with the tool that exported it.`,
    );
  }
  await remember(verdict, difference);
  return encoder;
}

/**
 * Hash of what the verdict depends on. Weights that lie in other files are none of it: the patch reads where they are, never what they are.
 */
async function checkId(file: string, wanted: EncoderOutputs): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify([PATCH_VERSION, outputIds(wanted)]));
  for await (const chunk of createReadStream(file)) hash.update(chunk as Uint8Array);
  return hash.digest('hex');
}

async function passed(file: string): Promise<boolean> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return text.startsWith('{"equal":true');
}

/** Written under another name and moved, so that no reader meets half a file. Where the cache cannot be written, the next load checks again. */
async function remember(file: string, difference: number): Promise<void> {
  const temporary = `${file}.${process.pid}.${Date.now()}`;
  try {
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(temporary, `${JSON.stringify({ equal: true, difference })}\n`);
    await rename(temporary, file);
  } catch {
    // A cache: nothing is lost without it.
  }
}

/** A picture without structure, the same each time: a linear congruential generator (Numerical Recipes), values in [-2, 2). */
function noise({ width, height }: { width: number; height: number }): PixelValues {
  let state = 1;
  const data = Float32Array.from({ length: 3 * width * height }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 30 - 2;
  });
  return { data, width, height };
}

/** The largest difference, in units of the largest expected value; NaN where a value is, Infinity where the lengths differ. */
function relativeDifference(expected: Float32Array, actual: Float32Array): number {
  if (expected.length !== actual.length) return Infinity;
  let difference = 0;
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    difference = Math.max(difference, Math.abs(expected[i] - actual[i]));
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return difference / largest;
}
