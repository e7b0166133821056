/**
 * Qwen2-VL, Qwen2.5-VL and Qwen3-VL: a picture of any size in one grid of patches, of which the merger folds squares
 * into tokens; tokens have three-dimensional positions. As image_processing_qwen2_vl.py and get_rope_index of
 * transformers make them. Qwen2.5-VL runs its patches window by window, so its signals have that order.
 */
import type { Grid } from '@foveate/core';
import { memberOf, wholeNumber, type Json } from '../bundle/json.js';
import {
  preprocess,
  readPreprocessing,
  type DecodedImage,
  type PixelValues,
  type Preprocessing,
  type Resize,
  type Size,
} from '../bundle/preprocessing.js';
import { BundleError, ImageError } from '../platform/errors.js';
import type {
  ArrangedCrop,
  BundleJson,
  CropArrangement,
  EncoderFeeds,
  Family,
  FamilySettings,
  ImagePositions,
  ReducedImage,
} from './family.js';
import { foldInto } from './fold.js';

/** What is known of a model of the family. */
interface Qwen2VlSettings extends FamilySettings {
  /** Patches of a side of a token's square. */
  readonly mergeSize: number;
  /** Frames that a patch goes through; those of a picture are all the same. */
  readonly frames: number;
  readonly minPixels: number;
  readonly maxPixels: number;
  readonly interpolation: NonNullable<Preprocessing['resize']>['interpolation'];
  /** Tokens of a side of a window; null where patches are in one order all along. */
  readonly window: number | null;
}

/**
 * config.json says `"model_type": "qwen2_vl"`, `"qwen2_5_vl"` or `"qwen3_vl"`. Of a Qwen3-VL the language model
 * reads what the graph calls image_features: features of earlier layers (DeepStack) are the export's to fold in.
 */
export const qwen2Vl: Family<Qwen2VlSettings> = {
  modelTypes: ['qwen2_vl', 'qwen2_5_vl', 'qwen3_vl'],
  readSettings,
  preprocess: preprocessPicture,
  feeds,
  arrange,
  layOut: ({ crops: [places] }) => places.map((_, token) => ({ crop: 0, token })),
  positions,
  probeSize: (settings) =>
    targetSize({ width: 4 * factorOf(settings), height: 4 * factorOf(settings) }, settings),
};

/** Most that one side of a picture may be longer than the other. */
const MAX_RATIO = 200;

/** @throws BundleError */
function readSettings({ directory, config, preprocessor }: BundleJson): Qwen2VlSettings {
  const { name, json } = preprocessor;
  const vision = memberOf(config, 'vision_config');
  const count = (what: string, ...values: unknown[]): number =>
    positive(
      directory,
      what,
      values.find((value) => value !== undefined && value !== null),
    );
  const patchSize = count('patch_size', json.patch_size, vision.patch_size, 14);
  const mergeSize = count('merge_size', json.merge_size, vision.spatial_merge_size, 2);
  const size = memberOf(json, 'size');
  const side = patchSize * mergeSize;
  const own = {
    processors: ['Qwen2VLImageProcessor', 'Qwen2_5_VLImageProcessor', 'Qwen3VLImageProcessor'],
    steps: [],
  };
  // The size is no rule of the others': it is read below.
  const plain = { name, json: { ...json, size: { width: side, height: side } } };
  const { levels, resize } = readPreprocessing(directory, plain, own);
  return {
    modelType: String(config.model_type),
    imageTokenId: wholeNumber(directory, 'config.json: image_token_id', config.image_token_id),
    patchSize,
    patchesPerToken: mergeSize ** 2,
    visionLayers: count('config.json: vision_config.depth', vision.depth, 32),
    preprocessing: { levels },
    mergeSize,
    frames: count('temporal_patch_size', json.temporal_patch_size, vision.temporal_patch_size, 2),
    minPixels: count('min_pixels', json.min_pixels, size.shortest_edge, 56 * 56),
    maxPixels: count('max_pixels', json.max_pixels, size.longest_edge, 14 * 14 * 4 * 1280),
    interpolation: resize?.interpolation ?? 'bicubic',
    window: windowOf(directory, config, vision, side),
  };
}

/** @throws BundleError */
function positive(directory: string, what: string, value: unknown): number {
  const number = wholeNumber(directory, what, value);
  if (number > 0) return number;
  throw new BundleError(`${directory}: ${what} must be above 0.`);
}

/** @throws BundleError */
function windowOf(directory: string, config: Json, vision: Json, side: number): number | null {
  if (config.model_type !== 'qwen2_5_vl') return null;
  const pixels = positive(directory, 'config.json: vision_config.window_size', vision.window_size ?? 112);
  return Math.max(1, Math.floor(pixels / side));
}

function factorOf({ patchSize, mergeSize }: Qwen2VlSettings): number {
  return patchSize * mergeSize;
}

/**
 * smart_resize: whole tokens, about as many pixels as before, within the limits. Halves are rounded to even as
 * Python does; transformers.js rounds them up, and makes other grids where a side is one and a half, or three
 * and a half ... times a token's.
 * @throws ImageError where one side is more than 200 times the other
 */
function targetSize({ width, height }: Size, settings: Qwen2VlSettings): Size {
  const { minPixels, maxPixels } = settings;
  const factor = factorOf(settings);
  if (Math.max(width, height) > MAX_RATIO * Math.min(width, height)) {
    throw new ImageError(
      `An image of ${width} x ${height} pixels has one side more than ${MAX_RATIO} times the other, which this model does not read: crop it.`,
    );
  }
  const near = (side: number): number => roundHalfToEven(side / factor) * factor;
  if (near(width) * near(height) > maxPixels) {
    const shrink = Math.sqrt((height * width) / maxPixels);
    const down = (side: number): number => Math.max(factor, Math.floor(side / shrink / factor) * factor);
    return { width: down(width), height: down(height) };
  }
  if (near(width) * near(height) < minPixels) {
    const grow = Math.sqrt(minPixels / (height * width));
    const up = (side: number): number => Math.ceil((side * grow) / factor) * factor;
    return { width: up(width), height: up(height) };
  }
  return { width: near(width), height: near(height) };
}

function roundHalfToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

async function preprocessPicture(
  image: DecodedImage,
  settings: Qwen2VlSettings,
  resize: Resize,
): Promise<PixelValues[]> {
  const resized = await resize(image, targetSize(image, settings), settings.interpolation);
  return [await preprocess(resized, settings.preprocessing, resize)];
}

/**
 * Patches [P, 3 * frames * side * side], square after square of those that become a token. Every frame is the
 * picture.
 */
function feeds(pixels: PixelValues, settings: Qwen2VlSettings): EncoderFeeds {
  const { patchSize: side, mergeSize, frames } = settings;
  const [rows, columns] = [pixels.height / side, pixels.width / side];
  const data = new Float32Array(3 * frames * pixels.width * pixels.height);
  let to = 0;
  for (let patch = 0; patch < rows * columns; patch++) {
    const { row, column } = patchPlace(patch, columns, mergeSize);
    for (let plane = 0; plane < 3; plane++) {
      const start = to;
      for (let y = 0; y < side; y++, to += side) {
        const from = (plane * pixels.height + row * side + y) * pixels.width + column * side;
        data.set(pixels.data.subarray(from, from + side), to);
      }
      for (let frame = 1; frame < frames; frame++, to += side * side) {
        data.copyWithin(to, start, start + side * side);
      }
    }
  }
  const grid = {
    type: 'int64',
    data: BigInt64Array.of(1n, BigInt(rows), BigInt(columns)),
    dims: [1, 3],
  } as const;
  return {
    pixel_values: { type: 'float32', data, dims: [rows * columns, data.length / (rows * columns)] },
    grid_thw: grid, // as Qwen2-VL's graphs call it
    image_grid_thw: grid, // as the later ones' do
  };
}

/** Where a patch stands, in the order of the encoder's input. */
function patchPlace(patch: number, columns: number, mergeSize: number): { row: number; column: number } {
  const square = mergeSize ** 2;
  const token = Math.floor(patch / square);
  const inSquare = patch % square;
  const tokensInRow = columns / mergeSize;
  return {
    row: Math.floor(token / tokensInRow) * mergeSize + Math.floor(inSquare / mergeSize),
    column: (token % tokensInRow) * mergeSize + (inSquare % mergeSize),
  };
}

/** The grid of the tokens of a picture of so many pixels, as the encoder reads it. */
function tokenGrid({ width, height }: Size, settings: Qwen2VlSettings): Grid {
  const factor = factorOf(settings);
  return { rows: height / factor, columns: width / factor };
}

function arrange(_size: Size, crops: readonly ArrangedCrop[], settings: Qwen2VlSettings): CropArrangement[] {
  return crops.map(({ pixels, tokens }) => {
    const grid = tokenGrid(pixels, settings);
    if (grid.rows * grid.columns !== tokens) {
      throw new BundleError(
        `The encoder gives ${tokens} tokens for ${pixels.width} x ${pixels.height} pixels; preprocessor_config.json says ${grid.rows} x ${grid.columns}: patch_size or merge_size are of another model.`,
      );
    }
    const { patchesPerToken, window } = settings;
    const places = window === null ? null : windowPlaces(grid, window);
    const fold = foldInto(
      tokens,
      patchesPerToken,
      (token, patch) => (places?.[token] ?? token) * patchesPerToken + patch,
    );
    return { left: null, grid, fold, region: { left: 0, top: 0, width: 1, height: 1 } };
  });
}

/** get_vision_window_index: where each token stands when windows come one after the other, row by row. */
function windowPlaces({ rows, columns }: Grid, window: number): Uint32Array {
  const places = new Uint32Array(rows * columns);
  let place = 0;
  for (let top = 0; top < rows; top += window) {
    for (let left = 0; left < columns; left += window) {
      for (let row = top; row < Math.min(top + window, rows); row++) {
        for (let column = left; column < Math.min(left + window, columns); column++) {
          places[row * columns + column] = place++;
        }
      }
    }
  }
  return places;
}

/** get_rope_index: each token where it stands in the picture, whatever was left out around it. */
function positions({ size, crops: [places] }: ReducedImage, settings: Qwen2VlSettings): ImagePositions {
  const { rows, columns } = tokenGrid(targetSize(size, settings), settings);
  return {
    rows: places.map((place) => [0, Math.floor(place / columns), place % columns] as const),
    end: Math.max(rows, columns),
  };
}
