/**
 * Grids and numbers of tokens for pictures of every kind of size are those of the Python processors, as
 * tools/export-hf/counts.py wrote them down.
 */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { BundleJson, FamilySettings } from './family.js';
import { familyOf, readFamily } from './index.js';

type Family = 'idefics3' | 'smolvlm' | 'qwen2_vl' | 'llava_next' | 'llava_onevision';

const counts = JSON.parse(
  readFileSync(new URL('../../fixtures/families/counts.json', import.meta.url), 'utf8'),
) as Record<Family, readonly (readonly number[])[]>;

function settingsOf(config: Record<string, unknown>, preprocessor: Record<string, unknown>): FamilySettings {
  const files: BundleJson = {
    directory: 'test',
    config,
    preprocessor: { name: 'preprocessor_config.json', json: preprocessor },
    processor: {},
  };
  return readFamily(files, { newlines: 'drop' });
}

const tiles = (type: string, side: number, patch: number, scale: number, edge: number): FamilySettings =>
  settingsOf(
    {
      model_type: type,
      image_token_id: 1,
      scale_factor: scale,
      vision_config: { image_size: side, patch_size: patch },
    },
    { size: { longest_edge: edge }, max_image_size: { longest_edge: side } },
  );

test.each([
  ['idefics3', tiles('idefics3', 364, 14, 2, 1456)],
  ['smolvlm', tiles('smolvlm', 512, 16, 4, 2048)],
] as const)('%s: tiles, and what is written for them', (family, settings) => {
  for (const [height, width, rows, columns] of counts[family]) {
    const split = rows * columns > 1;
    const text = familyOf(settings).written!({ width, height }, '<image>', settings);
    const places = [...text.matchAll(/<row_(\d+)_col_(\d+)><image>/g)].map(([, row, column]) => [
      row,
      column,
    ]);
    const expected = Array.from({ length: split ? rows * columns : 0 }, (_, i) => [
      String(Math.floor(i / columns) + 1),
      String((i % columns) + 1),
    ]);
    expect(places, `${height} x ${width}`).toEqual(expected);
    expect(text.endsWith('<fake_token_around_image><global-img><image><fake_token_around_image>')).toBe(true);
    expect(text.split('\n')).toHaveLength(split ? rows + 2 : 1);
  }
});

test('qwen2_vl: the grid of tokens', () => {
  const settings = settingsOf(
    { model_type: 'qwen2_vl', image_token_id: 1, vision_config: { depth: 32 } },
    {
      patch_size: 14,
      merge_size: 2,
      temporal_patch_size: 2,
      size: { shortest_edge: 3136, longest_edge: 1003520 },
    },
  );
  for (const [height, width, rows, columns] of counts.qwen2_vl) {
    const image = { size: { width, height }, crops: [[0, rows * columns - 1]], written: [], reduced: true };
    expect(familyOf(settings).positions!(image, settings), `${height} x ${width}`).toEqual({
      rows: [
        [0, 0, 0],
        [0, rows - 1, columns - 1],
      ],
      end: Math.max(rows, columns),
    });
  }
});

const EDGE_OF_NEXT = 336;
const PINPOINTS = [
  [336, 672],
  [672, 336],
  [672, 672],
  [1008, 336],
  [336, 1008],
];
const anyres = (type: string, side: number, more: Record<string, unknown>): FamilySettings =>
  settingsOf(
    {
      model_type: type,
      image_token_index: 1,
      image_newline: [0],
      vision_config: { patch_size: 14 },
      ...more,
    },
    { size: { width: side, height: side }, ...more },
  );

test.each([
  [
    'llava_next',
    anyres('llava_next', EDGE_OF_NEXT, { image_grid_pinpoints: PINPOINTS }),
    EDGE_OF_NEXT,
    PINPOINTS.map(([height, width]) => [height / EDGE_OF_NEXT, width / EDGE_OF_NEXT]),
  ],
  [
    'llava_onevision',
    anyres('llava_onevision', 384, {}),
    384,
    Array.from({ length: 36 }, (_, i) => [Math.floor(i / 6) + 1, (i % 6) + 1]),
  ],
] as const)('%s: the number of tokens', (name, settings, side, grids) => {
  const family = familyOf(settings);
  const tokens = Math.floor(side / 14) ** 2;
  const crop = { pixels: { width: side, height: side }, tokens };
  for (const [height, width, expected] of counts[name]) {
    const size = { width, height };
    const crops = Array.from({ length: cropsOf(height, width, side, grids) + 1 }, () => crop);
    const left = family.arrange(size, crops, settings).map((one) => one.left?.length ?? tokens);
    const image = {
      size,
      crops: left.map((count) => [...new Array(count).keys()]),
      written: [],
      reduced: false,
    };
    expect(family.layOut(image, settings), `${height} x ${width}`).toHaveLength(expected);
  }
});

/** select_best_resolution over grids of crops, by hand: most pixels of the picture, then fewest wasted. */
function cropsOf(height: number, width: number, side: number, grids: readonly (readonly number[])[]): number {
  let best = { crops: 0, effective: 0, wasted: Infinity };
  for (const [rows, columns] of grids) {
    const scale = Math.min((side * columns) / width, (side * rows) / height);
    const effective = Math.min(Math.trunc(width * scale) * Math.trunc(height * scale), width * height);
    const wasted = side ** 2 * rows * columns - effective;
    if (effective > best.effective || (effective === best.effective && wasted < best.wasted))
      best = { crops: rows * columns, effective, wasted };
  }
  return best.crops;
}
