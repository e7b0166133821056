/**
 * LLaVA-NeXT (LLaVA-1.6), "anyres": a picture as a whole in one crop, then enlarged and padded to the best of
 * some resolutions, in several. The language model reads the whole's tokens, then those of the others as one
 * picture, line by line, without padding, a newline behind each line. As transformers does it:
 * image_processing_llava_next.py, processing_llava_next.py and pack_image_features of modeling_llava_next.py.
 */
import { memberOf, wholeNumber } from '../bundle/json.js';
import {
  preprocess,
  probeSize,
  type DecodedImage,
  type PixelValues,
  type Preprocessing,
  type Resize,
  type Size,
} from '../bundle/preprocessing.js';
import { BundleError } from '../platform/errors.js';
import type {
  ArrangedCrop,
  BundleJson,
  CropArrangement,
  Family,
  FamilyOptions,
  FamilySettings,
  ImageRow,
  ReducedImage,
} from './family.js';
import { pictureFeeds, readPatchSettings, wholeCrop } from './llava.js';

/** What is known of a LLaVA-NeXT. */
export interface LlavaNextSettings extends FamilySettings, FamilyOptions {
  readonly preprocessing: Preprocessing & Required<Pick<Preprocessing, 'resize'>>;
  /** Pixels of a side of a crop. */
  readonly side: number;
  /** In pixels, whole crops each. */
  readonly resolutions: readonly Size[];
  /** [D] Null where config.json does not have it. */
  readonly newline: readonly number[] | null;
}

/** config.json says `"model_type": "llava_next"`. */
export const llavaNext: Family<LlavaNextSettings> = {
  modelTypes: ['llava_next'],
  readSettings: (files, options) => readLlavaNextSettings(files, options),
  preprocess: preprocessCrops,
  arrange,
  layOut,
  feeds: pictureFeeds,
  probeSize: ({ side }) => ({ width: side, height: side }),
};

/** Height before width, in pixels. */
type Resolution = readonly [number, number];

/** Defaults of LlavaNextImageProcessor. */
const RESOLUTIONS: readonly Resolution[] = [
  [336, 672],
  [672, 336],
  [672, 672],
  [1008, 336],
  [336, 1008],
];
const MAX_SIDE = 16_384;

/**
 * @param processor name of the image processor
 * @param resolutions the processor's own
 * @throws BundleError
 */
export function readLlavaNextSettings(
  files: BundleJson,
  { newlines }: FamilyOptions,
  processor: string = 'LlavaNextImageProcessor',
  defaults: readonly Resolution[] = RESOLUTIONS,
): LlavaNextSettings {
  const { directory, config } = files;
  const settings = readPatchSettings(files, {
    processors: [processor],
    steps: ['do_pad'], // pads the pictures of a batch to the same number of crops: here each has its own
  });
  const { resize } = settings.preprocessing;
  if (!resize) throw new BundleError(`${directory}: preprocessor_config.json must ask for do_resize.`);
  const side = cropSide(directory, settings.preprocessing, memberOf(config, 'vision_config').image_size);
  const newline = readNewline(files);
  if (newlines !== 'drop' && !newline) throw withoutNewline(`newlines is '${newlines}'`, directory);
  return {
    ...settings,
    preprocessing: { ...settings.preprocessing, resize },
    side,
    resolutions: readResolutions(files, side, defaults),
    newline,
    newlines,
  };
}

/** The encoder's side, which crops and the whole picture have. @throws BundleError */
function cropSide(directory: string, preprocessing: Preprocessing, encoder: unknown): number {
  const { width, height } = probeSize(preprocessing);
  const { resize } = preprocessing;
  const whole = resize && 'size' in resize ? [resize.size.width, resize.size.height] : [resize?.shortestEdge];
  const sides = [width, height, ...whole, encoder ?? width];
  if (sides.every((side) => side === width)) return width;
  throw new BundleError(
    `${directory}: size and crop_size of preprocessor_config.json, and vision_config.image_size of config.json, must be one square; they have ${sides.map((side) => JSON.stringify(side)).join(', ')}.`,
  );
}

/** @throws BundleError */
function readResolutions(
  { directory, config, preprocessor }: BundleJson,
  side: number,
  defaults: readonly Resolution[],
): Size[] {
  const [ofModel, ofProcessor] = [config, preprocessor.json].map((json) => json.image_grid_pinpoints ?? null);
  if (ofModel && ofProcessor && JSON.stringify(ofModel) !== JSON.stringify(ofProcessor))
    throw new BundleError(
      `${directory}: config.json and preprocessor_config.json have other image_grid_pinpoints: the files are of different models.`,
    );
  const list: unknown = ofModel ?? ofProcessor ?? defaults;
  if (!Array.isArray(list) || list.length === 0) throw noResolutions(directory, side, list);
  return list.map((resolution: unknown) => {
    const [height, width, ...more] = Array.isArray(resolution) ? (resolution as unknown[]) : [];
    if (isSide(height, side) && isSide(width, side) && more.length === 0) return { height, width };
    throw noResolutions(directory, side, resolution);
  });
}

function isSide(value: unknown, crop: number): value is number {
  return typeof value === 'number' && Number.isInteger(value / crop) && value >= crop && value <= MAX_SIDE;
}

function noResolutions(directory: string, side: number, value: unknown): BundleError {
  return new BundleError(
    `${directory}: image_grid_pinpoints must be pairs [height, width] of whole crops of ${side} pixels; there is ${JSON.stringify(value).slice(0, 80)}.`,
  );
}

/** @throws BundleError where it is no row of the language model */
function readNewline({ directory, config }: BundleJson): number[] | null {
  const value = config.image_newline;
  if (value === undefined || value === null) return null;
  const { hidden_size: width } = memberOf(config, 'text_config');
  const isRow = Array.isArray(value) && value.every((number) => Number.isFinite(number)) && value.length > 0;
  if (isRow && (width === undefined || value.length === wholeNumber(directory, 'hidden_size', width)))
    return value as number[];
  throw new BundleError(
    `${directory}: config.json: image_newline must be a list of numbers, as many as text_config.hidden_size says.`,
  );
}

function withoutNewline(why: string, directory = 'This bundle'): BundleError {
  return new BundleError(
    `${directory}: config.json has no image_newline, the list of numbers that the language model reads behind each row of a picture, and ${why}. ` +
      "Add it (it is model.image_newline of the weights), or reduce the visual tokens with newlines 'drop', which needs none.",
  );
}

/** A picture in its resolution, cut into crops. */
interface Tiling {
  /** In pixels: whole crops. */
  readonly canvas: Size;
  /** In pixels: the enlarged picture, in the middle of the canvas. */
  readonly picture: Size;
  /** Of the picture's upper left corner. */
  readonly offset: { readonly left: number; readonly top: number };
  /** Crops in a row. */
  readonly columns: number;
  /** Of the tokens of all crops as one picture the rectangle that is no padding. */
  readonly window: Window;
}

/** A rectangle in a grid of tokens. */
export interface Window {
  readonly top: number;
  /** Column of its first. */
  readonly left: number;
  readonly rows: number;
  readonly columns: number;
}

/** Of the tokens of all crops as one picture those that are no padding. */
export function tokenWindow(size: Size, settings: LlavaNextSettings): Window {
  return tile(size, settings).window;
}

function tile(size: Size, { resolutions, side, patchSize }: LlavaNextSettings): Tiling {
  const canvas = bestResolution(size, resolutions);
  const picture = sizeOn(canvas, size);
  const patches = Math.floor(side / patchSize); // in a row of a crop
  return {
    canvas,
    picture,
    offset: {
      left: Math.floor((canvas.width - picture.width) / 2),
      top: Math.floor((canvas.height - picture.height) / 2),
    },
    columns: canvas.width / side,
    window: unpadded(size, {
      width: (canvas.width / side) * patches,
      height: (canvas.height / side) * patches,
    }),
  };
}

/** select_best_resolution: most pixels of the picture, then fewest wasted; the first of equals. */
function bestResolution({ width, height }: Size, resolutions: readonly Size[]): Size {
  let best = { effective: 0, wasted: Infinity, resolution: resolutions[0] };
  for (const resolution of resolutions) {
    const scale = Math.min(resolution.width / width, resolution.height / height);
    const pixels = Math.trunc(width * scale) * Math.trunc(height * scale);
    const effective = Math.min(pixels, width * height);
    const wasted = resolution.width * resolution.height - effective;
    if (effective > best.effective || (effective === best.effective && wasted < best.wasted))
      best = { effective, wasted, resolution };
  }
  return best.resolution;
}

/** get_patch_output_size */
function sizeOn(canvas: Size, { width, height }: Size): Size {
  const scale = { width: canvas.width / width, height: canvas.height / height };
  if (scale.width < scale.height)
    return { width: canvas.width, height: Math.min(Math.ceil(height * scale.width), canvas.height) };
  return { width: Math.min(Math.ceil(width * scale.height), canvas.width), height: canvas.height };
}

/**
 * unpad_image: what is left of a grid of tokens. Rounds otherwise than the padding of the pixels, down to no
 * row or column at all.
 */
function unpadded({ width, height }: Size, grid: Size): Window {
  // round(x, 7) before int(x), against what is just below a whole number.
  const whole = (tokens: number): number => Math.trunc(Number(tokens.toFixed(7)));
  if (width / height > grid.width / grid.height) {
    const top = Math.floor((grid.height - whole(height * (grid.width / width))) / 2);
    return { top, left: 0, rows: grid.height - 2 * top, columns: grid.width };
  }
  const left = Math.floor((grid.width - whole(width * (grid.height / height))) / 2);
  return { top: 0, left, rows: grid.height, columns: grid.width - 2 * left };
}

/** get_image_patches: the picture as a whole, then the crops, row by row. */
export async function preprocessCrops(
  image: DecodedImage,
  settings: LlavaNextSettings,
  resize: Resize,
): Promise<PixelValues[]> {
  const { side, preprocessing } = settings;
  const { interpolation } = preprocessing.resize;
  const { canvas, picture, offset } = tile(image, settings);
  const whole = await resize(image, { width: side, height: side }, interpolation);
  const enlarged = await resize(image, picture, interpolation);
  const crops = [preprocess(whole, preprocessing, resize)];
  for (let top = 0; top < canvas.height; top += side) {
    for (let left = 0; left < canvas.width; left += side) {
      const crop = cutOut(enlarged, { left: left - offset.left, top: top - offset.top }, side);
      crops.push(preprocess(crop, preprocessing, resize));
    }
  }
  return Promise.all(crops);
}

/** A square of an image, black where it lies outside. */
function cutOut(
  { data, width, height }: DecodedImage,
  { left, top }: { readonly left: number; readonly top: number },
  side: number,
): DecodedImage {
  const cut = new Uint8Array(3 * side * side);
  const first = Math.max(left, 0);
  const end = Math.min(left + side, width);
  for (let y = Math.max(top, 0); y < Math.min(top + side, height) && first < end; y++) {
    const row = data.subarray(3 * (y * width + first), 3 * (y * width + end));
    cut.set(row, 3 * ((y - top) * side + first - left));
  }
  return { data: cut, width: side, height: side };
}

/**
 * The tokens of the whole picture, and of each crop those that are no padding.
 * @throws BundleError where the encoder gives other tokens
 */
export function arrange(
  size: Size,
  [whole, ...crops]: readonly ArrangedCrop[],
  settings: LlavaNextSettings,
): CropArrangement[] {
  const tiling = tile(size, settings);
  const first = wholeCrop(whole, { left: 0, top: 0, width: 1, height: 1 }, settings);
  if (!first.grid)
    throw new BundleError(
      `The encoder gives ${whole.tokens} tokens for ${whole.pixels.width} x ${whole.pixels.height} pixels, which are no grid of patches of ${settings.patchSize}: padding cannot be left out of them. Export it with the vision_feature_select_strategy of the model.`,
    );
  return [first, ...crops.map((_, crop) => arrangeCrop(crop, tiling, settings))];
}

/** The part of one crop in the window. */
function arrangeCrop(crop: number, tiling: Tiling, settings: LlavaNextSettings): CropArrangement {
  const { side, patchSize } = settings;
  const { picture, offset, columns } = tiling;
  const { top, left, ...grid } = windowOf(crop, tiling, settings);
  const patches = Math.floor(side / patchSize);
  const tokens = Array.from(
    { length: grid.rows * grid.columns },
    (_, i) => (top + Math.floor(i / grid.columns)) * patches + left + (i % grid.columns),
  );
  const start = {
    left: (crop % columns) * side + left * patchSize - offset.left,
    top: Math.floor(crop / columns) * side + top * patchSize - offset.top,
  };
  return {
    left: tokens.length === patches ** 2 ? null : Uint32Array.from(tokens),
    grid: tokens.length > 0 ? grid : null,
    fold: null,
    region: {
      left: start.left / picture.width,
      top: start.top / picture.height,
      width: (grid.columns * patchSize) / picture.width,
      height: (grid.rows * patchSize) / picture.height,
    },
  };
}

/** The window as far as it lies in one crop, in that crop's grid. */
function windowOf(crop: number, { columns, window }: Tiling, { side, patchSize }: LlavaNextSettings): Window {
  const patches = Math.floor(side / patchSize);
  const within = (start: number, length: number, place: number): [number, number] => {
    const first = Math.min(Math.max(start - place * patches, 0), patches);
    const end = Math.min(Math.max(start + length - place * patches, 0), patches);
    return [first, end - first];
  };
  const [top, rows] = within(window.top, window.rows, Math.floor(crop / columns));
  const [left, width] = within(window.left, window.columns, crop % columns);
  return { top, left, rows, columns: width };
}

/** pack_image_features, of what the reducers left. */
function layOut(image: ReducedImage, settings: LlavaNextSettings): ImageRow[] {
  return [...wholeRows(image), ...endLines(linesOf(image, settings), image.reduced, settings)];
}

/** The tokens of the whole picture, which come first. */
export function wholeRows({ crops: [whole] }: ReducedImage): ImageRow[] {
  return whole.map((_, token) => ({ crop: 0, token }));
}

/** What is left of the tokens of all other crops as one picture, line by line. */
export function linesOf({ size, crops }: ReducedImage, settings: LlavaNextSettings): ImageRow[][] {
  const [, ...cut] = crops;
  const tiling = tile(size, settings);
  const lines: { column: number; row: ImageRow }[][] = Array.from({ length: tiling.window.rows }, () => []);
  const patches = Math.floor(settings.side / settings.patchSize);
  for (const [crop, places] of cut.entries()) {
    const { top, left, columns } = windowOf(crop, tiling, settings);
    const firstLine = Math.floor(crop / tiling.columns) * patches + top - tiling.window.top;
    const firstColumn = (crop % tiling.columns) * patches + left;
    for (const [token, place] of places.entries()) {
      const column = firstColumn + (place % columns);
      lines[firstLine + Math.floor(place / columns)].push({ column, row: { crop: crop + 1, token } });
    }
  }
  return lines.map((line) => line.sort((a, b) => a.column - b.column).map(({ row }) => row));
}

/** The lines one after the other, each with its newline where it has one. */
export function endLines(
  lines: readonly (readonly ImageRow[])[],
  reduced: boolean,
  settings: LlavaNextSettings,
): ImageRow[] {
  const policy = reduced ? settings.newlines : 'keep';
  return lines.flatMap((line) => {
    const ends = policy === 'keep' || (policy === 'nonempty' && line.length > 0);
    return ends ? [...line, newlineRow(settings)] : line;
  });
}

/** @throws BundleError */
function newlineRow({ newline }: LlavaNextSettings): ImageRow {
  if (newline) return { embedding: newline };
  throw withoutNewline('a picture of this call is not reduced');
}
