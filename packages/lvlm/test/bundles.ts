/** Bundles and pictures for tests. */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import type { RawImage } from '../src/index.js';

/** The bundle with random weights: see fixtures/README.md. */
export const FIXTURE: string = fileURLToPath(new URL('../fixtures/random-llava', import.meta.url));

/** Where tests remember verdicts of the identity check. */
export const CACHE: string = path.join(tmpdir(), 'foveate-lvlm-test-cache');

/** A folder that is removed after the test. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'foveate-lvlm-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A copy of the fixture that a test may damage; removed after the test. */
export async function copyOfFixture(): Promise<string> {
  const folder = path.join(await temporaryFolder(), 'bundle');
  await cp(FIXTURE, folder, { recursive: true });
  return folder;
}

/** Changes a JSON file of a bundle. */
export async function editJson(
  bundle: string,
  name: string,
  changes: Record<string, unknown>,
): Promise<void> {
  const file = path.join(bundle, name);
  const value = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
  await writeFile(file, JSON.stringify({ ...value, ...changes }));
}

/** A picture with gradients and a disc, another one for each seed. */
export function picture(seed: number, width = 64, height = 64): RawImage {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const inside =
        (x - width * ((seed * 0.37) % 1)) ** 2 + (y - height * ((seed * 0.61) % 1)) ** 2 <
        (width * height) / 16;
      for (let c = 0; c < 3; c++) {
        const background = (x * (c + 1) * 255) / width / 3 + (y * ((seed + c) % 4) * 255) / height / 4;
        data[(y * width + x) * 3 + c] = inside ? (seed * 53 + c * 97) % 256 : background;
      }
    }
  }
  return { data, width, height, channels: 3 };
}
