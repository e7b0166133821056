/**
 * LLaVA-OneVision: one picture as in LLaVA-NeXT, its tokens resampled where there are too many; of several
 * pictures each as a whole, padded to a square, with one newline. As image_processing_llava_onevision.py,
 * processing_llava_onevision.py and pack_image_features of modeling_llava_onevision.py make it. Bundles made
 * for transformers.js, whose config.json has no image_newline, read every picture as one view.
 */
import { UnsupportedReducerError } from '@foveate/core';
import {
  preprocess,
  type DecodedImage,
  type PixelValues,
  type Resize,
  type Size,
} from '../bundle/preprocessing.js';
import { BundleError } from '../platform/errors.js';
import { shown } from '../bundle/json.js';
import type {
  ArrangedCrop,
  BundleJson,
  CropArrangement,
  Family,
  FamilyOptions,
  ImageRow,
  ReducedImage,
  ResampledRow,
} from './family.js';
import { llava, pictureFeeds, wholeCrop } from './llava.js';
import {
  arrange as arrangeCrops,
  endLines,
  linesOf,
  preprocessCrops,
  readLlavaNextSettings,
  tokenWindow,
  wholeRows,
  type LlavaNextSettings,
} from './llava-next.js';
import { neighbours, type Neighbours } from './pixel-planes.js';

/** What is known of a LLaVA-OneVision. */
interface LlavaOnevisionSettings extends LlavaNextSettings {
  /** Crops whose tokens a picture may have before they are resampled. */
  readonly maxCrops: number;
  /** What squares are padded with: a byte a channel. */
  readonly background: readonly number[];
}

/** config.json says `"model_type": "llava_onevision"`. */
export const llavaOnevision: Family<LlavaOnevisionSettings> = {
  modelTypes: ['llava_onevision'],
  readSettings,
  preprocess: preprocessPicture,
  readsOneOtherwise: true,
  feeds: pictureFeeds,
  arrange,
  layOut,
  probeSize: ({ side }) => ({ width: side, height: side }),
};

/** Of LlavaOnevisionImageProcessor: 1 to 6 crops of 384 pixels each way. */
const RESOLUTIONS = Array.from(
  { length: 36 },
  (_, i) => [384 * (1 + Math.floor(i / 6)), 384 * (1 + (i % 6))] as const,
);
/** How much more tokens a side may have than it should before they are resampled. */
const TOLERANCE = 1.1;

/** @throws BundleError */
function readSettings(files: BundleJson, options: FamilyOptions): LlavaOnevisionSettings {
  const { directory, config, processor } = files;
  const settings = readLlavaNextSettings(files, options, 'LlavaOnevisionImageProcessor', RESOLUTIONS);
  const ratio: unknown = config.vision_aspect_ratio ?? processor.vision_aspect_ratio ?? 'anyres_max_9';
  const [, maxCrops] = /^anyres_max_(\d+)$/.exec(String(ratio)) ?? [];
  if (!(Number(maxCrops) > 0)) {
    throw new BundleError(
      `${directory}: vision_aspect_ratio is ${shown(ratio)}; this runner knows anyres_max_ and a number.`,
    );
  }
  const mean = files.preprocessor.json.image_mean;
  const channels: unknown[] = Array.isArray(mean) ? mean : [0, 0, 0];
  return {
    ...settings,
    maxCrops: Number(maxCrops),
    background: channels.map((channel) => Math.trunc(Number(channel) * 255)),
  };
}

/** Whether pictures are read as they are in transformers.js. */
function isOneView({ newline }: LlavaOnevisionSettings): boolean {
  return newline === null;
}

async function preprocessPicture(
  image: DecodedImage,
  settings: LlavaOnevisionSettings,
  resize: Resize,
  images: number,
): Promise<PixelValues[]> {
  if (isOneView(settings)) return [await preprocess(image, settings.preprocessing, resize)];
  if (images === 1) return preprocessCrops(image, settings, resize);
  return [await preprocess(paddedToSquare(image, settings.background), settings.preprocessing, resize)];
}

/** pad_to_square */
function paddedToSquare({ data, width, height }: DecodedImage, background: readonly number[]): DecodedImage {
  const side = Math.max(width, height);
  const padded = Uint8Array.from({ length: 3 * side * side }, (_, i) => background[i % 3]);
  const [left, top] = [Math.floor((side - width) / 2), Math.floor((side - height) / 2)];
  for (let y = 0; y < height; y++) {
    padded.set(data.subarray(3 * y * width, 3 * (y + 1) * width), 3 * ((top + y) * side + left));
  }
  return { data: padded, width: side, height: side };
}

function arrange(
  size: Size,
  crops: readonly ArrangedCrop[],
  settings: LlavaOnevisionSettings,
): CropArrangement[] {
  if (isOneView(settings)) return llava.arrange(size, crops, settings);
  if (crops.length > 1) return arrangeCrops(size, crops, settings);
  const side = Math.max(size.width, size.height);
  const [width, height] = [side / size.width, side / size.height];
  const square = {
    left: -Math.floor((side - size.width) / 2) / size.width,
    top: -Math.floor((side - size.height) / 2) / size.height,
    ...{ width, height },
  };
  return crops.map((crop) => wholeCrop(crop, square, settings));
}

/** pack_image_features, of what the reducers left. */
function layOut(image: ReducedImage, settings: LlavaOnevisionSettings): ImageRow[] {
  if (isOneView(settings)) return wholeRows(image);
  const lines = image.crops.length > 1 ? resampledLines(image, settings) : [];
  if (image.crops.length === 1) return endLines([wholeRows(image)], image.reduced, settings);
  return [...wholeRows(image), ...endLines(lines, image.reduced, settings)];
}

/**
 * The lines, fewer and shorter where they have too many tokens.
 * @throws UnsupportedReducerError where tokens are to be resampled of which some were left out
 */
function resampledLines(
  image: ReducedImage,
  settings: LlavaOnevisionSettings,
): readonly (readonly ImageRow[])[] {
  const lines = linesOf(image, settings);
  const { side, patchSize, maxCrops } = settings;
  const { rows, columns } = tokenWindow(image.size, settings);
  const most = maxCrops * Math.floor(side / patchSize) ** 2;
  const shrink = Math.sqrt((rows * columns) / most);
  if (shrink <= TOLERANCE) return lines;
  if (image.reduced) {
    throw new UnsupportedReducerError(
      `A picture of ${image.size.width} x ${image.size.height} pixels has so many tokens that this model resamples them, so that none of them can be left out before: make the picture smaller, or use a method inside the language model, such as fastv.`,
    );
  }
  return resample(
    lines,
    neighbours(rows, wholeTimes(rows, shrink)),
    neighbours(columns, wholeTimes(columns, shrink)),
  );
}

/** Python's `//`, which a quotient that is rounded up to a whole number does not deceive. */
function wholeTimes(value: number, divisor: number): number {
  return Math.round((value - (value % divisor)) / divisor);
}

/** Bilinear between the tokens, as torch's interpolate does it. */
function resample(
  lines: readonly (readonly ImageRow[])[],
  rows: readonly Neighbours[],
  columns: readonly Neighbours[],
): ResampledRow[][] {
  const counts: number[] = [];
  return rows.map((row) =>
    columns.map((column) => {
      const mix: ResampledRow['mix'][number][] = [];
      const add = (token: ImageRow, weight: number): void => {
        if ('crop' in token && weight > 0) mix.push({ crop: token.crop, token: token.token, weight });
      };
      add(lines[row.first][column.first], (1 - row.share) * (1 - column.share));
      add(lines[row.first][column.second], (1 - row.share) * column.share);
      add(lines[row.second][column.first], row.share * (1 - column.share));
      add(lines[row.second][column.second], row.share * column.share);
      const { crop } = mix[0];
      const token = counts[crop] ?? 0;
      counts[crop] = token + 1;
      return { crop, token, mix };
    }),
  );
}
