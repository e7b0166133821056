/** Small random models of each family, and what PyTorch makes of them: see tools/export-hf. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { RawImage } from '../src/index.js';

const FOLDER = fileURLToPath(new URL('../fixtures/families', import.meta.url));

/** What PyTorch says of one prompt. */
export interface FamilyCase {
  /** Seed, width and height of each. */
  readonly pictures: readonly (readonly [number, number, number])[];
  readonly text: string;
  /** [images][crops] tokens. */
  readonly counts: readonly (readonly number[])[];
  /** Crop by crop, of all pictures. */
  readonly significance: readonly (readonly number[])[] | null;
  /** FoPru's, likewise; null where the family resamples the tokens. */
  readonly kept: readonly (readonly number[])[] | null;
  /** Of the prompt, every image expanded. */
  readonly ids: readonly number[];
  readonly tokens: readonly number[];
  readonly fopruTokens: readonly number[] | null;
  readonly fastvTokens: readonly number[];
}

/** Folder of a family's bundle. */
export function familyBundle(family: string): string {
  return path.join(FOLDER, family);
}

/** What PyTorch says of a family's bundle. */
export function familyCases(family: string): readonly FamilyCase[] {
  const text = readFileSync(path.join(FOLDER, family, 'expected.json'), 'utf8');
  return (JSON.parse(text) as { cases: FamilyCase[] }).cases;
}

/**
 * `picture` of tools/export-hf: bytes of a linear congruential generator; of one colour for seeds from 100
 * on.
 */
export function familyPicture([seed, width, height]: readonly [number, number, number]): RawImage {
  let state = seed;
  const bytes = Uint8Array.from({ length: seed >= 100 ? 3 : 3 * width * height }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
  const data = Uint8Array.from({ length: 3 * width * height }, (_, i) => bytes[i % bytes.length]);
  return { data, width, height, channels: 3 };
}
