/**
 * LLaVA-NeXT as the Python library has it, function by function (image_processing_utils.py,
 * image_processing_llava_next.py, processing_llava_next.py and modeling_llava_next.py of transformers), on
 * nested arrays; and the random bundle as one of that family, which needs no other graphs.
 */
import { RawImage as TransformersImage } from '@huggingface/transformers';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { RawImage } from '../src/index.js';
import { editJson, FIXTURE } from './bundles.js';

/** Height and width, as Python orders them. */
export type HeightWidth = readonly [number, number];

/** Pixels of a side of a crop, and tokens. */
export const SIDE = 64;
export const PATCHES = 8;
/** Of the bundle. */
export const PINPOINTS: readonly HeightWidth[] = [
  [64, 128],
  [128, 64],
  [128, 128],
  [192, 64],
  [64, 192],
];
/** Of the bundle: as wide as its language model, as large as its embeddings. */
export const NEWLINE: Float32Array = Float32Array.from({ length: 24 }, (_, d) => 1.5 * Math.sin(d * d + 1));

/** Changes of a bundle's JSON files. */
export interface Changes {
  readonly config?: Record<string, unknown>;
  readonly preprocessor?: Record<string, unknown>;
  readonly processor?: Record<string, unknown>;
}

/** The random bundle as a LLaVA-NeXT, in a folder of its own. */
export async function llavaNextBundle({ config, preprocessor, processor }: Changes = {}): Promise<{
  bundle: string;
  remove(): Promise<void>;
}> {
  const bundle = await mkdtemp(path.join(tmpdir(), 'foveate-lvlm-'));
  await cp(FIXTURE, bundle, { recursive: true });
  await editJson(bundle, 'config.json', {
    model_type: 'llava_next',
    image_grid_pinpoints: PINPOINTS,
    image_newline: [...NEWLINE],
    ...config,
  });
  await editJson(bundle, 'preprocessor_config.json', {
    processor_class: 'LlavaNextProcessor',
    image_processor_type: 'LlavaNextImageProcessor',
    image_grid_pinpoints: PINPOINTS,
    size: { shortest_edge: SIDE },
    do_center_crop: true,
    crop_size: { height: SIDE, width: SIDE },
    do_pad: true,
    ...preprocessor,
  });
  await editJson(bundle, 'processor_config.json', { processor_class: 'LlavaNextProcessor', ...processor });
  return { bundle, remove: () => rm(bundle, { recursive: true, force: true }) };
}

/** select_best_resolution */
export function selectBestResolution(
  [originalHeight, originalWidth]: HeightWidth,
  possible: readonly HeightWidth[],
): HeightWidth {
  let bestFit: HeightWidth | null = null;
  let maxEffective = 0;
  let minWasted = Infinity;
  for (const [height, width] of possible) {
    const scale = Math.min(width / originalWidth, height / originalHeight);
    const downscaled = Math.trunc(originalWidth * scale) * Math.trunc(originalHeight * scale);
    const effective = Math.min(downscaled, originalWidth * originalHeight);
    const wasted = width * height - effective;
    if (effective > maxEffective || (effective === maxEffective && wasted < minWasted)) {
      maxEffective = effective;
      minWasted = wasted;
      bestFit = [height, width];
    }
  }
  return bestFit!;
}

/** get_patch_output_size */
function patchOutputSize(
  [originalHeight, originalWidth]: HeightWidth,
  [height, width]: HeightWidth,
): HeightWidth {
  const scaleW = width / originalWidth;
  const scaleH = height / originalHeight;
  if (scaleW < scaleH) return [Math.min(Math.ceil(originalHeight * scaleW), height), width];
  return [height, Math.min(Math.ceil(originalWidth * scaleH), width)];
}

/**
 * get_image_patches without the whole picture: the crops' pixels before they are rescaled. Resampled by
 * transformers.js, as everything that this project compares; padded as Python does, because transformers.js
 * has no image processor of this family, and its own `pad` pads to the right and below.
 */
export async function imagePatches({ data, width, height, channels }: RawImage): Promise<RawImage[]> {
  const [bestHeight, bestWidth] = selectBestResolution([height, width], PINPOINTS);
  const [newHeight, newWidth] = patchOutputSize([height, width], [bestHeight, bestWidth]);
  const original = new TransformersImage(new Uint8ClampedArray(data), width, height, channels);
  const resized = await original.resize(newWidth, newHeight, { resample: 3 });
  const pasteX = Math.floor((bestWidth - newWidth) / 2);
  const pasteY = Math.floor((bestHeight - newHeight) / 2);
  const padded = Array.from({ length: bestHeight }, () =>
    Array.from({ length: bestWidth }, (): number[] => [0, 0, 0]),
  );
  for (let y = 0; y < newHeight; y++) {
    for (let x = 0; x < newWidth; x++) {
      const at = 3 * (y * newWidth + x);
      padded[pasteY + y][pasteX + x] = [...resized.data.slice(at, at + 3)];
    }
  }
  const patches: RawImage[] = [];
  for (let i = 0; i < bestHeight; i += SIDE) {
    for (let j = 0; j < bestWidth; j += SIDE) {
      const pixels = padded.slice(i, i + SIDE).flatMap((row) => row.slice(j, j + SIDE).flat());
      patches.push({ data: Uint8Array.from(pixels), width: SIDE, height: SIDE, channels: 3 });
    }
  }
  return patches;
}

/** round(x, 7), then int */
function intOfRounded(x: number): number {
  return Math.trunc(Math.round(x * 1e7) / 1e7);
}

/** LlavaNextProcessor._get_number_of_features, with vision_feature_select_strategy 'default' or no CLS. */
export function numberOfFeatures(
  [height, width]: HeightWidth,
  pinpoints: readonly HeightWidth[],
  side: number,
  patches: number,
): number {
  const [bestHeight, bestWidth] = selectBestResolution([height, width], pinpoints);
  let currentHeight = patches * Math.floor(bestHeight / side);
  let currentWidth = patches * Math.floor(bestWidth / side);
  if (width / height > currentWidth / currentHeight) {
    const newHeight = intOfRounded(height * (currentWidth / width));
    currentHeight -= Math.floor((currentHeight - newHeight) / 2) * 2;
  } else {
    const newWidth = intOfRounded(width * (currentHeight / height));
    currentWidth -= Math.floor((currentWidth - newWidth) / 2) * 2;
  }
  return currentHeight * currentWidth + currentHeight + patches * patches;
}

/** unpad_image */
function unpadImage<T>(tensor: readonly (readonly T[])[], [height, width]: HeightWidth): T[][] {
  const currentHeight = tensor.length;
  const currentWidth = tensor[0].length;
  if (width / height > currentWidth / currentHeight) {
    const scale = currentWidth / width;
    const padding = Math.floor((currentHeight - intOfRounded(height * scale)) / 2);
    return tensor.slice(padding, currentHeight - padding).map((row) => [...row]);
  }
  const scale = currentHeight / height;
  const padding = Math.floor((currentWidth - intOfRounded(width * scale)) / 2);
  return tensor.map((row) => row.slice(padding, currentWidth - padding));
}

/**
 * pack_image_features of one image, up to the newlines: the whole picture's features, and the lines of the
 * others.
 * @param features [crops][patches * patches]
 */
export function packLines<T>(
  [whole, ...crops]: readonly (readonly T[])[],
  size: HeightWidth,
  pinpoints: readonly HeightWidth[],
  side: number,
  patches: number,
): { whole: readonly T[]; lines: T[][] } {
  const [bestHeight, bestWidth] = selectBestResolution(size, pinpoints);
  const across = Math.floor(bestWidth / side);
  const lines = Array.from({ length: Math.floor(bestHeight / side) * patches }, (_, y) =>
    Array.from(
      { length: across * patches },
      (_value, x) =>
        crops[Math.floor(y / patches) * across + Math.floor(x / patches)][
          (y % patches) * patches + (x % patches)
        ],
    ),
  );
  return { whole, lines: unpadImage(lines, size) };
}
