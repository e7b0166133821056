/**
 * Idefics3 and SmolVLM: a picture is enlarged to whole tiles, its tiles come row by row and the whole of it
 * last, each with its place written before it; the connector folds squares of patches (pixel shuffle). Tiles
 * and texts are those of image_processing_idefics3.py and processing_idefics3.py of transformers; pixels are
 * made as transformers.js does it, which enlarges to whole tiles behind the normalisation, without
 * antialiasing.
 */
import type { Grid } from '@foveate/core';
import { memberOf, wholeNumber } from '../bundle/json.js';
import {
  preprocess,
  readPreprocessing,
  type DecodedImage,
  type PixelValues,
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
  ImageRow,
  ReducedImage,
} from './family.js';
import { foldSquares } from './fold.js';
import { cutOut, resizeBilinear } from './pixel-planes.js';

/** What is known of an Idefics3 or a SmolVLM. */
interface Idefics3Settings extends FamilySettings {
  /** Pixels of a side of a tile. */
  readonly side: number;
  /** Tokens of a side of a tile. */
  readonly tokens: number;
  /** Whether pictures are cut into tiles. */
  readonly splits: boolean;
  /** What the longer side of a picture becomes before it is cut, in pixels; null: it stays. */
  readonly longestEdge: number | null;
}

/** config.json says `"model_type": "idefics3"` or `"smolvlm"`. */
export const idefics3: Family<Idefics3Settings> = {
  modelTypes: ['idefics3', 'smolvlm'],
  readSettings,
  preprocess: preprocessTiles,
  feeds,
  written,
  arrange,
  layOut,
  probeSize: ({ side }) => ({ width: side, height: side }),
};

/** MAX_IMAGE_SIZE of the processor: of a picture's longer side before it is cut. */
const MAX_SIDE = 4096;
/** What surrounds each tile's tokens. */
const AROUND = '<fake_token_around_image>';
const WHOLE = '<global-img>';

/** @throws BundleError */
function readSettings({ directory, config, preprocessor }: BundleJson): Idefics3Settings {
  const count = (what: string, value: unknown): number => wholeNumber(directory, what, value);
  const own = {
    processors: ['Idefics3ImageProcessor', 'SmolVLMImageProcessor'],
    steps: ['do_pad', 'do_image_splitting'], // pads the pictures of a batch: here each stands alone
  };
  const preprocessing = readPreprocessing(directory, preprocessor, own);
  const { json } = preprocessor;
  const vision = memberOf(config, 'vision_config');
  const patchSize = count('config.json: vision_config.patch_size', vision.patch_size ?? 32);
  const scale = count('config.json: scale_factor', config.scale_factor ?? 2);
  const side = count('max_image_size.longest_edge', memberOf(json, 'max_image_size').longest_edge ?? 364);
  const tokens = Math.floor(side / patchSize) / scale;
  if (!Number.isInteger(tokens) || tokens < 1 || side !== (vision.image_size ?? side)) {
    throw new BundleError(
      `${directory}: tiles of ${side} pixels (max_image_size of ${preprocessor.name}) must be what the encoder reads (vision_config.image_size ${JSON.stringify(vision.image_size)}), in whole squares of ${scale} x ${scale} patches of ${patchSize} pixels.`,
    );
  }
  const { resize } = preprocessing;
  return {
    modelType: String(config.model_type),
    imageTokenId: count('config.json: image_token_id', config.image_token_id),
    patchSize,
    patchesPerToken: scale ** 2,
    visionLayers: count('config.json: vision_config.num_hidden_layers', vision.num_hidden_layers ?? 12),
    preprocessing,
    side,
    tokens,
    splits: json.do_image_splitting !== false,
    longestEdge: resize && 'longestEdge' in resize ? (resize.longestEdge ?? null) : null,
  };
}

/** How a picture is cut. */
interface Tiling {
  /** In pixels: whole tiles. */
  readonly canvas: Size;
  /** Of tiles; null where the picture stays whole. */
  readonly grid: Grid | null;
}

function tile(size: Size, { side, splits, longestEdge }: Idefics3Settings): Tiling {
  const resized = longestEdge === null ? size : belowMaximum(withLongestEdge(size, longestEdge));
  const whole = { width: side, height: side };
  if (!splits) return { canvas: whole, grid: null };
  const up = (pixels: number): number => Math.ceil(pixels / side) * side;
  const ratio = resized.width / resized.height;
  const canvas =
    resized.width >= resized.height
      ? { width: up(resized.width), height: up(Math.trunc(up(resized.width) / ratio)) }
      : { width: up(Math.trunc(up(resized.height) * ratio)), height: up(resized.height) };
  const grid = { rows: canvas.height / side, columns: canvas.width / side };
  return { canvas, grid: grid.rows > 1 || grid.columns > 1 ? grid : null };
}

/**
 * _resize_output_size_rescale_to_max_len: the shorter side is even, which decides the tiles; transformers.js
 * has no such rule, so the pixels come from the size next to it.
 */
function withLongestEdge({ width, height }: Size, edge: number): Size {
  const even = (side: number): number => Math.max(1, side + (side % 2));
  const ratio = width / height;
  return width >= height
    ? { width: edge, height: even(Math.trunc(edge / ratio)) }
    : { width: even(Math.trunc(edge * ratio)), height: edge };
}

/** _resize_output_size_scale_below_upper_bound */
function belowMaximum({ width, height }: Size): Size {
  const ratio = width / height;
  if (width >= height && width > MAX_SIDE)
    return { width: MAX_SIDE, height: Math.max(1, Math.trunc(MAX_SIDE / ratio)) };
  if (height > width && height > MAX_SIDE)
    return { width: Math.max(1, Math.trunc(MAX_SIDE * ratio)), height: MAX_SIDE };
  return { width, height };
}

/** The tiles row by row, then the whole picture. */
async function preprocessTiles(
  image: DecodedImage,
  settings: Idefics3Settings,
  resize: Resize,
): Promise<PixelValues[]> {
  const { canvas, grid } = tile(image, settings);
  if (canvas.width * canvas.height > 2 * MAX_SIDE ** 2) {
    throw new ImageError(
      `An image of ${image.width} x ${image.height} pixels would be enlarged to ${canvas.width} x ${canvas.height}: make it smaller.`,
    );
  }
  const enlarged = resizeBilinear(await preprocess(image, settings.preprocessing, resize), canvas);
  const { side } = settings;
  if (!grid) return [enlarged];
  const tiles = Array.from({ length: grid.rows * grid.columns }, (_, i) =>
    cutOut(enlarged, (i % grid.columns) * side, Math.floor(i / grid.columns) * side, side),
  );
  return [...tiles, resizeBilinear(enlarged, { width: side, height: side })];
}

/** One tile of which all pixels are the picture's. */
function feeds({ data, width, height }: PixelValues): EncoderFeeds {
  return {
    pixel_values: { type: 'float32', data, dims: [1, 1, 3, height, width] },
    pixel_attention_mask: {
      type: 'bool',
      data: new Uint8Array(height * width).fill(1),
      dims: [1, 1, height, width],
    },
  };
}

/** get_image_prompt_string, an image token for each tile. */
function written(size: Size, imageToken: string, settings: Idefics3Settings): string {
  const { grid } = tile(size, settings);
  const whole = `${AROUND}${WHOLE}${imageToken}${AROUND}`;
  if (!grid) return whole;
  const rows = Array.from({ length: grid.rows }, (_row, r) => {
    const tiles = Array.from(
      { length: grid.columns },
      (_column, c) => `${AROUND}<row_${r + 1}_col_${c + 1}>${imageToken}`,
    );
    return `${tiles.join('')}\n`;
  });
  return `${rows.join('')}\n${whole}`;
}

function arrange(size: Size, crops: readonly ArrangedCrop[], settings: Idefics3Settings): CropArrangement[] {
  const { tokens, patchesPerToken } = settings;
  const { grid } = tile(size, settings);
  const other = crops.find((crop) => crop.tokens !== tokens ** 2);
  if (other) {
    throw new BundleError(
      `The encoder gives ${other.tokens} tokens for a tile of ${other.pixels.width} x ${other.pixels.height} pixels; config.json says ${tokens ** 2}: scale_factor or patch_size are of another model.`,
    );
  }
  const square = { rows: tokens, columns: tokens };
  const fold = foldSquares(square, Math.sqrt(patchesPerToken));
  return crops.map((_, i) => ({ left: null, grid: square, fold, region: regionOf(i, grid) }));
}

/** What a tile shows of the picture; the last is the whole. */
function regionOf(crop: number, grid: Grid | null): CropArrangement['region'] {
  if (!grid || crop === grid.rows * grid.columns) return { left: 0, top: 0, width: 1, height: 1 };
  return {
    left: (crop % grid.columns) / grid.columns,
    top: Math.floor(crop / grid.columns) / grid.rows,
    width: 1 / grid.columns,
    height: 1 / grid.rows,
  };
}

/** What is written, with each tile's tokens in the place of its image token. */
function layOut({ crops, written: ids }: ReducedImage, { imageTokenId }: Idefics3Settings): ImageRow[] {
  let tiles = 0;
  return ids.flatMap((tokenId): ImageRow[] => {
    if (tokenId !== imageTokenId) return [{ tokenId }];
    const crop = tiles++;
    return crops[crop].map((_, token) => ({ crop, token }));
  });
}
