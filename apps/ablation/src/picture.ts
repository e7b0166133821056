/** Draws which patches of an image reached the language model. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { FoveateError } from '@foveate/core';
import type { ImageReport, StageReport } from '@foveate/lvlm';
import sharp from 'sharp';

/** A picture of the kept patches cannot be drawn or written. */
class PictureError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/PictureError');
  override readonly name = 'PictureError';
}

/** A report whose tokens have places in the image. */
export type LocatedReport = ImageReport & {
  readonly grid: NonNullable<ImageReport['grid']>;
  readonly region: NonNullable<ImageReport['region']>;
};

/** How much of a dropped patch's light is taken away. */
const DIMMING = 0.75;
/** Small images are enlarged in whole steps, so that a patch is large enough to look at. */
const SMALLEST_SIDE = 512;

/** Which of the encoder's visual tokens reached the language model, on their own or merged. [inputTokens] */
export function reachingTokens({ inputTokens, stages }: ImageReport): boolean[] {
  const last = stages.at(-1);
  if (!last) return new Array<boolean>(inputTokens).fill(true);
  return stages.reduceRight((outputs, { plan }: StageReport) => {
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
export async function drawKept(image: string, report: LocatedReport): Promise<Buffer> {
  const upright = await sharp(image).rotate().toColourspace('srgb').removeAlpha().png().toBuffer();
  const { width, height } = await sharp(upright).metadata();
  const scale = Math.max(1, Math.ceil(SMALLEST_SIDE / Math.max(width, height)));
  const size = { width: width * scale, height: height * scale };
  const shade = { data: shadeOf(report, size), raw: { ...size, channels: 4 as const } };
  return sharp(upright)
    .resize({ ...size, kernel: 'nearest' })
    .composite([{ input: shade.data, raw: shade.raw }])
    .png()
    .toBuffer();
}

/** Black with an opacity for each pixel: [height, width, 4]. */
function shadeOf(report: LocatedReport, { width, height }: { width: number; height: number }): Buffer {
  const { grid, region } = report;
  const reaching = reachingTokens(report);
  const shade = Buffer.alloc(width * height * 4);
  for (let y = 0; y < height; y++) {
    const row = Math.floor((((y + 0.5) / height - region.top) / region.height) * grid.rows);
    for (let x = 0; x < width; x++) {
      const column = Math.floor((((x + 0.5) / width - region.left) / region.width) * grid.columns);
      const inside = row >= 0 && row < grid.rows && column >= 0 && column < grid.columns;
      if (!inside || !reaching[row * grid.columns + column])
        shade[(y * width + x) * 4 + 3] = Math.round(255 * DIMMING);
    }
  }
  return shade;
}

/**
 * Writes a picture over nothing that is there: NAME-kept.png in the current folder, or NAME-kept-2.png, -3 ... where that is taken.
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
