/** Sizes, places and pixels are those of the Python library, written once more in test/llava-next.ts. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FIXTURE, picture } from '../../test/bundles.js';
import {
  imagePatches,
  llavaNextBundle,
  numberOfFeatures,
  packLines,
  PATCHES,
  PINPOINTS,
  selectBestResolution,
  SIDE,
  type Changes,
  type HeightWidth,
} from '../../test/llava-next.js';
import { loadReference, type Reference } from '../../test/transformers-js.js';
import { readBundle } from '../bundle/bundle.js';
import { BundleError } from '../platform/errors.js';
import { resize } from '../platform/node.js';
import type { CropArrangement, FamilySettings, Newlines } from './family.js';
import { familyOf } from './index.js';

interface Model {
  readonly side: number;
  readonly patches: number;
  readonly pinpoints: readonly HeightWidth[];
}

/** Those of LLaVA-1.6, and of the bundle. */
const MODELS: readonly Model[] = [
  {
    side: 336,
    patches: 24,
    pinpoints: [
      [336, 672],
      [672, 336],
      [672, 672],
      [1008, 336],
      [336, 1008],
    ],
  },
  { side: SIDE, patches: PATCHES, pinpoints: PINPOINTS },
];

async function settingsOf(changes: Changes = {}, newlines: Newlines = 'drop'): Promise<FamilySettings> {
  const made = await llavaNextBundle(changes);
  try {
    return (await readBundle(made.bundle, 'fp32', { newlines })).family;
  } finally {
    await made.remove();
  }
}

function settingsOfModel({ side, patches, pinpoints }: Model): Promise<FamilySettings> {
  return settingsOf({
    config: { vision_config: { image_size: side }, image_grid_pinpoints: pinpoints },
    preprocessor: {
      size: { shortest_edge: side },
      crop_size: { height: side, width: side },
      image_grid_pinpoints: pinpoints,
    },
    processor: { patch_size: side / patches },
  });
}

function arrangementOf(
  size: HeightWidth,
  { side, patches, pinpoints }: Model,
  family: FamilySettings,
): CropArrangement[] {
  const [bestHeight, bestWidth] = selectBestResolution(size, pinpoints);
  const crop = { pixels: { width: side, height: side }, tokens: patches ** 2 };
  const crops = new Array<typeof crop>(1 + (bestHeight * bestWidth) / side ** 2).fill(crop);
  return familyOf(family).arrange({ width: size[1], height: size[0] }, crops, family);
}

/** What the language model reads: the number of each token among all of the encoder's; -1: a newline. */
function laidOut([height, width]: HeightWidth, model: Model, family: FamilySettings): number[] {
  const tokens = model.patches ** 2;
  const left = arrangementOf([height, width], model, family).map(({ left: some, grid }) => {
    const all = [...(some ?? new Array(tokens).keys())];
    expect(all).toHaveLength(grid ? grid.rows * grid.columns : 0);
    return all;
  });
  const crops = left.map((some) => [...some.keys()]);
  const rows = familyOf(family).layOut(
    { size: { width, height }, crops, written: [], reduced: false },
    family,
  );
  return rows.map((row) => ('crop' in row ? row.crop * tokens + left[row.crop][row.token] : -1));
}

/** The same by pack_image_features. */
function packed(size: HeightWidth, { side, patches, pinpoints }: Model): number[] {
  const features = Array.from({ length: 37 }, (_, crop) =>
    Array.from({ length: patches ** 2 }, (_token, i) => crop * patches ** 2 + i),
  );
  const { whole, lines } = packLines(features, size, pinpoints, side, patches);
  return [...whole, ...lines.flatMap((line) => [...line, -1])];
}

/** Around every change of the best resolution, extreme shapes, and pictures of any size. */
function sizes({ side }: Model): HeightWidth[] {
  const edges = [1, 2, 3].flatMap((count) => [-1, 0, 1].map((more) => count * side + more));
  const sides = [1, 2, 3, side / 2, ...edges, 500, 10_000];
  let state = 1;
  const random = (): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return 1 + (state % 2500);
  };
  return [
    ...sides.flatMap((height) => sides.map((width): HeightWidth => [height, width])),
    ...Array.from({ length: 2000 }, (): HeightWidth => [random(), random()]),
  ];
}

test.each(MODELS)('what is read of pictures of every size, in crops of $side pixels', async (model) => {
  const family = await settingsOfModel(model);
  for (const size of sizes(model)) {
    const expected = packed(size, model);
    expect(numberOfFeatures(size, model.pinpoints, model.side, model.patches)).toBe(expected.length);
    expect(laidOut(size, model, family), String(size)).toEqual(expected);
  }
});

describe('where the tokens lie in the picture', () => {
  test.each<[string, HeightWidth, Partial<CropArrangement>[]]>([
    [
      'two crops that it fills',
      [64, 128],
      [
        { left: null, region: { left: 0, top: 0, width: 1, height: 1 } },
        { left: null, grid: { rows: 8, columns: 8 }, region: { left: 0, top: 0, width: 0.5, height: 1 } },
        { left: null, grid: { rows: 8, columns: 8 }, region: { left: 0.5, top: 0, width: 0.5, height: 1 } },
      ],
    ],
    [
      // On 64 x 192 pixels it becomes 64 x 160: 16 black pixels, 2 columns, at either end.
      'three crops, padded at the ends',
      [80, 200],
      [
        { left: null },
        { grid: { rows: 8, columns: 6 }, region: { left: 0, top: 0, width: 48 / 160, height: 1 } },
        { left: null, region: { left: 48 / 160, top: 0, width: 64 / 160, height: 1 } },
        { grid: { rows: 8, columns: 6 }, region: { left: 112 / 160, top: 0, width: 48 / 160, height: 1 } },
      ],
    ],
    [
      'nothing but padding',
      [500, 1],
      [
        { left: null, grid: { rows: 8, columns: 8 } },
        { left: new Uint32Array(), grid: null },
        { left: new Uint32Array(), grid: null },
      ],
    ],
  ])('%s', async (_, size, expected) => {
    const arranged = arrangementOf(size, MODELS[1], await settingsOf());
    expect(arranged).toMatchObject(expected);
    expect(arranged).toHaveLength(expected.length);
  });

  test('the columns that are left', async () => {
    const [, first] = arrangementOf([80, 200], MODELS[1], await settingsOf());
    const columns = [2, 3, 4, 5, 6, 7];
    expect([...first.left!]).toEqual(
      [0, 1, 2, 3, 4, 5, 6, 7].flatMap((row) => columns.map((column) => 8 * row + column)),
    );
  });
});

describe('newlines of a reduced picture', () => {
  // 16 x 8 tokens in two crops, one above the other; kept: crop 2's third row out of order, crop 1's first
  // row.
  const image = {
    size: { width: 64, height: 128 },
    crops: [[5], [7, 0], [18, 17]],
    written: [],
    reduced: true,
  };
  const kept = {
    drop: ['0:0', '1:1', '1:0', '2:1', '2:0'],
    nonempty: ['0:0', '1:1', '1:0', '\n', '2:1', '2:0', '\n'],
    keep: [
      '0:0',
      '1:1',
      '1:0',
      ...new Array<string>(10).fill('\n'),
      '2:1',
      '2:0',
      ...new Array<string>(6).fill('\n'),
    ],
  };
  test.each(['drop', 'nonempty', 'keep'] as const)('%s', async (newlines) => {
    const family = await settingsOf({}, newlines);
    const rows = familyOf(family).layOut(image, family);
    expect(rows.map((row) => ('crop' in row ? `${row.crop}:${row.token}` : '\n'))).toEqual(kept[newlines]);
  });
});

describe('pixels', () => {
  let reference: Reference;
  beforeAll(async () => {
    reference = await loadReference(FIXTURE); // resizes to one crop, which leaves a crop as it is
  });
  afterAll(() => reference.dispose());

  test.each([
    [64, 64],
    [128, 128],
    [200, 80],
    [33, 257],
    [301, 300],
    [13, 29],
    [1, 500],
    [500, 1],
  ])('%i x %i', async (width, height) => {
    const family = await settingsOf();
    const image = picture(3, width, height);
    const crops = await familyOf(family).preprocess(
      { ...image, data: Uint8Array.from(image.data) },
      family,
      resize,
      1,
    );
    const expected = [image, ...(await imagePatches(image))];
    expect(crops).toHaveLength(expected.length);
    for (const [i, crop] of expected.entries())
      expect(crops[i]).toEqual({ data: await reference.pixels(crop), width: SIDE, height: SIDE });
  });
});

describe('a bundle that is none', () => {
  const square = { size: { shortest_edge: 32 } };
  test.each<[string, RegExp, Changes, Newlines?]>([
    [
      'another processor',
      /knows LlavaNextImageProcessor/,
      { preprocessor: { image_processor_type: 'CLIPImageProcessor' } },
    ],
    ['not enlarged', /do_resize/, { preprocessor: { do_resize: false } }],
    [
      'crops of another size than the whole',
      /must be one square; they have 64, 64, 32/,
      { preprocessor: square },
    ],
    ['an encoder of another size', /must be one square/, { config: { vision_config: { image_size: 336 } } }],
    [
      'parts of crops',
      /pairs \[height, width\] of whole crops of 64 pixels; there is \[100,64\]/,
      {
        config: {
          image_grid_pinpoints: [
            [64, 64],
            [100, 64],
          ],
        },
        preprocessor: { image_grid_pinpoints: undefined },
      },
    ],
    [
      'no resolution',
      /there is \[\]/,
      {
        config: { image_grid_pinpoints: [] },
        preprocessor: { image_grid_pinpoints: undefined },
      },
    ],
    ['two lists', /other image_grid_pinpoints/, { config: { image_grid_pinpoints: [[64, 64]] } }],
    [
      'a newline of another width',
      /as many as text_config.hidden_size/,
      { config: { image_newline: [1, 2] } },
    ],
    [
      'no newline, but they are to stay',
      /no image_newline.*newlines is 'keep'/s,
      { config: { image_newline: undefined } },
      'keep',
    ],
  ])('%s', async (_, message, changes, newlines) => {
    const error: unknown = await settingsOf(changes, newlines).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(BundleError);
    expect((error as Error).message).toMatch(message);
  });

  test('an encoder whose tokens are no grid', async () => {
    const family = await settingsOf();
    const crop = { pixels: { width: SIDE, height: SIDE }, tokens: 65 };
    expect(() => familyOf(family).arrange({ width: 64, height: 128 }, [crop, crop, crop], family)).toThrow(
      /65 tokens for 64 x 64 pixels/,
    );
  });
});
