/** Pictures as the encoder reads them, plane by plane: parts of them, and other sizes. */
import type { PixelValues, Size } from '../bundle/preprocessing.js';

/** A square of a picture. */
export function cutOut(
  { data, width, height }: PixelValues,
  left: number,
  top: number,
  side: number,
): PixelValues {
  const cut = new Float32Array(3 * side * side);
  for (let line = 0; line < 3 * side; line++) {
    const from = (Math.floor(line / side) * height + top + (line % side)) * width + left;
    cut.set(data.subarray(from, from + side), line * side);
  }
  return { data: cut, width: side, height: side };
}

/**
 * A picture in another size: bilinear between the centres of pixels and without antialiasing, as ONNX's
 * Resize does it with the mode linear and half_pixel coordinates.
 */
export function resizeBilinear(picture: PixelValues, { width, height }: Size): PixelValues {
  if (picture.width === width && picture.height === height) return picture;
  const columns = neighbours(picture.width, width);
  const rows = neighbours(picture.height, height);
  const data = new Float32Array(3 * width * height);
  let to = 0;
  for (let plane = 0; plane < 3; plane++) {
    const start = plane * picture.width * picture.height;
    for (const row of rows) {
      const upper = start + row.first * picture.width;
      const lower = start + row.second * picture.width;
      for (const column of columns) {
        const above = mix(
          picture.data[upper + column.first],
          picture.data[upper + column.second],
          column.share,
        );
        const below = mix(
          picture.data[lower + column.first],
          picture.data[lower + column.second],
          column.share,
        );
        data[to++] = mix(above, below, row.share);
      }
    }
  }
  return { data, width, height };
}

function mix(first: number, second: number, share: number): number {
  return first + (second - first) * share;
}

/** Two places next to each other, and the share of the second. */
export interface Neighbours {
  readonly first: number;
  readonly second: number;
  readonly share: number;
}

/** Between which two of `from` places each of `to` places lies, centre by centre. */
export function neighbours(from: number, to: number): Neighbours[] {
  return Array.from({ length: to }, (_, i) => {
    const place = Math.min(Math.max(((i + 0.5) * from) / to - 0.5, 0), from - 1);
    const first = Math.floor(place);
    return { first, second: Math.min(first + 1, from - 1), share: place - first };
  });
}
