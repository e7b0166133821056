/**
 * Grids and numbers of tokens for pictures of every kind of size are those of the Python processors, as
 * tools/export-hf/counts.py wrote them down.
 */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { BundleJson, FamilySettings } from './family.js';
import { familyOf, readFamily } from './index.js';

type Family = 'idefics3' | 'smolvlm' | 'qwen2_vl' | 'llava_onevision';

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

test('llava_onevision: the number of tokens', () => {
  const settings = settingsOf(
    {
      model_type: 'llava_onevision',
      image_token_index: 1,
      image_newline: [0],
      vision_config: { patch_size: 14 },
    },
    { size: { width: 384, height: 384 } },
  );
  for (const [height, width, tokens] of counts.llava_onevision) {
    const pixels = { width: 384, height: 384 };
    const size = { width, height };
    const family = familyOf(settings);
    const arranged = family.arrange(
      size,
      Array.from({ length: cropsOf(height, width) + 1 }, () => ({ pixels, tokens: 729 })),
      settings,
    );
    const crops = arranged.map(({ left }) => [...new Array(left?.length ?? 729).keys()]);
    const image = { size, crops, written: [], reduced: false };
    expect(family.layOut(image, settings), `${height} x ${width}`).toHaveLength(tokens);
  }
});

/** select_best_resolution over 1 to 6 crops each way, by hand: most pixels of the picture, then fewest wasted. */
function cropsOf(height: number, width: number): number {
  let best = { crops: 0, effective: 0, wasted: Infinity };
  for (let rows = 1; rows <= 6; rows++) {
    for (let columns = 1; columns <= 6; columns++) {
      const scale = Math.min((384 * columns) / width, (384 * rows) / height);
      const effective = Math.min(Math.trunc(width * scale) * Math.trunc(height * scale), width * height);
      const wasted = 384 ** 2 * rows * columns - effective;
      if (effective > best.effective || (effective === best.effective && wasted < best.wasted))
        best = { crops: rows * columns, effective, wasted };
    }
  }
  return best.crops;
}
