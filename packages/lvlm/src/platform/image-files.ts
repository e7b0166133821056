/** From what a caller calls an image to RGB pixels. */
import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import type { DecodedImage } from '../bundle/preprocessing.js';
import { ImageError } from './errors.js';
import { loadSharp } from './native-libraries.js';
import type { ImageInput, RawImage } from '../caller/options-and-results.js';

const FORMATS = ['png', 'jpeg', 'webp', 'gif', 'heif', 'tiff'];
const KNOWN_FORMATS = 'known are PNG, JPEG, WebP, GIF, AVIF and TIFF';
/** Most pixels of a decoded image where the caller does not say. */
export const DEFAULT_MAX_PIXELS: number = 2 ** 26;
const MAX_FILE_BYTES = 2 ** 28;

/**
 * Decodes an image: upright (EXIF), 8 bits, alpha dropped, grey as RGB, the first frame of an animation. As
 * transformers.js does.
 * @param what how messages name the image, e.g. `images[0]`
 * @throws ImageError, PlatformError
 */
export async function decodeImage(input: ImageInput, what: string, maxPixels: number): Promise<DecodedImage> {
  if (typeof input === 'string')
    return decodeBytes(await readImageFile(input, what), `${what} (${input})`, maxPixels);
  if (input instanceof Uint8Array) return decodeBytes(input, what, maxPixels);
  return fromRaw(input, what, maxPixels);
}

/**
 * Reads an image file into pixels, as `Lvlm.generate` does: for callers who put one image to several calls
 * and want it decoded once.
 * @throws ImageError, PlatformError
 */
export async function readImage(file: string): Promise<RawImage> {
  return { ...(await decodeImage(file, 'file', DEFAULT_MAX_PIXELS)), channels: 3 };
}

/** Hash of the pixels and their arrangement: the same for every file that holds the same picture. */
export function hashImage({ data, width, height }: DecodedImage): string {
  return createHash('sha256').update(`${width}x${height}:`).update(data).digest('hex');
}

async function readImageFile(file: string, what: string): Promise<Uint8Array> {
  if (/^(data:|[a-z][a-z0-9+.-]*:\/\/)/i.test(file)) {
    throw new ImageError(
      `${what} is a URL. Images are read from disk or memory only: fetch it first, and pass its path or its bytes.`,
    );
  }
  const found = await stat(file).catch(() => null);
  if (!found) throw new ImageError(`${what}: there is no file ${file}.`);
  if (!found.isFile()) throw new ImageError(`${what}: ${file} is no file.`);
  if (found.size > MAX_FILE_BYTES)
    throw new ImageError(`${what}: ${file} has ${found.size} bytes; at most ${MAX_FILE_BYTES} are read.`);
  return readFile(file).catch((cause: unknown) => {
    throw new ImageError(`${what}: ${file} cannot be read: ${(cause as Error).message}.`, { cause });
  });
}

async function decodeBytes(bytes: Uint8Array, what: string, maxPixels: number): Promise<DecodedImage> {
  const sharp = await loadSharp();
  try {
    const image = sharp(bytes, { limitInputPixels: maxPixels });
    const { format } = await image.metadata();
    // Checked before any pixel is decoded: SVG and PDF are programs, not pixels.
    if (!FORMATS.includes(format))
      throw new ImageError(`${what} has the format ${format}; ${KNOWN_FORMATS}.`);
    const { data, info } = await image
      .rotate()
      .removeAlpha()
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    return { data, width: info.width, height: info.height };
  } catch (cause) {
    if (ImageError.isInstance(cause)) throw cause;
    const { message } = cause as Error;
    const hint = message.includes('unsupported image format') ? ` (${KNOWN_FORMATS})` : ''; // e.g. BMP
    throw new ImageError(
      `${what} cannot be decoded as an image of at most ${maxPixels} pixels: ${message}${hint}.`,
      { cause },
    );
  }
}

function fromRaw(image: RawImage, what: string, maxPixels: number): DecodedImage {
  const { data, width, height, channels } = Object(image) as RawImage; // null too gets the message below
  const isSide = (side: unknown): boolean => Number.isSafeInteger(side) && (side as number) > 0;
  if (
    !(data instanceof Uint8Array || data instanceof Uint8ClampedArray) ||
    !isSide(width) ||
    !isSide(height) ||
    ![1, 3, 4].includes(channels)
  ) {
    throw new ImageError(
      `${what} must be a path, the bytes of an image file, or { data: Uint8Array, width, height, channels: 1 | 3 | 4 }.`,
    );
  }
  if (width * height > maxPixels)
    throw new ImageError(`${what} has ${width} x ${height} pixels; at most ${maxPixels} are read.`);
  if (data.length !== width * height * channels) {
    throw new ImageError(
      `${what} has ${data.length} bytes; ${width} x ${height} pixels of ${channels} channels are ${width * height * channels}.`,
    );
  }
  const rgb = new Uint8Array(width * height * 3);
  const [green, blue] = channels === 1 ? [0, 0] : [1, 2];
  for (let from = 0, to = 0; from < data.length; from += channels) {
    rgb[to++] = data[from];
    rgb[to++] = data[from + green];
    rgb[to++] = data[from + blue];
  }
  return { data: rgb, width, height };
}
