/** Draws which patches of an image reached the language model. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { FoveateError } from '@foveate/core';
import type { CropReport, StepReport } from '@foveate/lvlm';
import sharp from 'sharp';

/** A picture of the kept patches cannot be drawn or written. */
class PictureError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/PictureError');
  override readonly name = 'PictureError';
}

/** A report whose tokens have places in the image. */
export type LocatedCrop = CropReport & {
  readonly grid: NonNullable<CropReport['grid']>;
  readonly region: NonNullable<CropReport['region']>;
};

/** Whether a crop's tokens have places in the image. */
export function isLocated(crop: CropReport): crop is LocatedCrop {
  return crop.grid !== null && crop.region !== null;
}

/** How much of a dropped patch's light is taken away. */
const DIMMING = 0.75;
/** Small images are enlarged in whole steps, so that a patch is large enough to look at. */
const SMALLEST_SIDE = 512;

/** Which of the encoder's visual tokens reached the language model, on their own or merged. [inputTokens] */
export function reachingTokens({ inputTokens, steps }: Pick<CropReport, 'inputTokens' | 'steps'>): boolean[] {
  const last = steps.at(-1);
  if (!last) return new Array<boolean>(inputTokens).fill(true);
  return steps.reduceRight((outputs, { plan }: StepReport) => {
    const inputs = new Array<boolean>(plan.inputLength).fill(false);
    for (let output = 0; output < plan.outputLength; output++) {
      if (!outputs[output]) continue;
      for (const source of plan.sources.subarray(plan.offsets[output], plan.offsets[output + 1]))
        inputs[source] = true;
    }
    return inputs;
  }, new Array<boolean>(last.outputTokens).fill(true));
}

/** The image as a PNG, dimmed where a patch was dropped and where the encoder never looked. */
export async function drawKept(image: string, crops: readonly LocatedCrop[]): Promise<Buffer> {
  const upright = await sharp(image).rotate().toColourspace('srgb').removeAlpha().png().toBuffer();
  const { width, height } = await sharp(upright).metadata();
  const scale = Math.max(1, Math.ceil(SMALLEST_SIDE / Math.max(width, height)));
  const size = { width: width * scale, height: height * scale };
  const shade = { data: shadeOf(crops, size), raw: { ...size, channels: 4 as const } };
  return sharp(upright)
    .resize({ ...size, kernel: 'nearest' })
    .composite([{ input: shade.data, raw: shade.raw }])
    .png()
    .toBuffer();
}

/**
 * Black with an opacity for each pixel, where no crop has a token that reached the language model: [height,
 * width, 4].
 */
function shadeOf(
  crops: readonly LocatedCrop[],
  { width, height }: { width: number; height: number },
): Buffer {
  const lit = crops.map((crop) => ({ crop, reaching: reachingTokens(crop) }));
  const shade = Buffer.alloc(width * height * 4);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [left, top] = [(x + 0.5) / width, (y + 0.5) / height];
      const isLit = lit.some(({ crop, reaching }) => reaching[tokenAt(crop, left, top)]);
      if (!isLit) shade[(y * width + x) * 4 + 3] = Math.round(255 * DIMMING);
    }
  }
  return shade;
}

/** The token that covers a point of the image; -1 where none does. */
function tokenAt({ grid, region }: LocatedCrop, left: number, top: number): number {
  const row = Math.floor(((top - region.top) / region.height) * grid.rows);
  const column = Math.floor(((left - region.left) / region.width) * grid.columns);
  const inside = row >= 0 && row < grid.rows && column >= 0 && column < grid.columns;
  return inside ? row * grid.columns + column : -1;
}

/**
 * Writes a picture over nothing that is there: NAME-kept.png in the current folder, or NAME-kept-2.png, -3
 * ... where that is taken.
 * @returns the file's name
 * @throws PictureError
 */
export async function writePicture(image: string, png: Uint8Array): Promise<string> {
  const name = `${path.parse(image).name}-kept`;
  for (let number = 1; ; number++) {
    const file = `${name}${number === 1 ? '' : `-${number}`}.png`;
    try {
      await writeFile(file, png, { flag: 'wx' });
      return file;
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'EEXIST') continue;
      throw new PictureError(`${path.resolve(file)} cannot be written: ${(cause as Error).message}.`, {
        cause,
      });
    }
  }
}
