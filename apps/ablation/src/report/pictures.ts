/** Pictures of one question: the image, its significance, and each method's kept tokens lit. */
import { interpolateInferno } from 'd3-scale-chromatic';
import { html } from 'hono/html';
import sharp from 'sharp';
import { readImage } from '@foveate/lvlm';
import type { Html } from './html.js';
import type { Place } from './inspect.js';

/** An image as the page holds it: once, however often it is drawn. */
export interface PageImage {
  readonly id: string;
  /** data: URL */
  readonly url: string;
  readonly width: number;
  readonly height: number;
}

const LARGEST_SIDE = 512;
/** How much light a dropped token loses. */
const DIMMING = 0.8;
/** Steps of the light of merged tokens. */
const LEVELS = 4;

/** The image upright, in the colours that the model saw, at most 512 pixels wide and high. */
export async function pageImage(file: string, id: string): Promise<PageImage> {
  const { data, width, height, channels } = await readImage(file);
  const small = sharp(data, { raw: { width, height, channels } }).resize({
    ...{ width: LARGEST_SIDE, height: LARGEST_SIDE, fit: 'inside', withoutEnlargement: true },
  });
  const { data: webp, info } = await small
    .webp({ quality: 85, smartSubsample: true })
    .toBuffer({ resolveWithObject: true });
  return { id, url: dataUrl(webp, 'webp'), width: info.width, height: info.height };
}

/** What the pictures of a page share: put it once, before them. */
export function definitions(images: readonly PageImage[]): Html {
  return html`<svg class="definitions" width="0" height="0" aria-hidden="true">
    <defs>
      ${images.map(
        ({ id, url, width, height }) =>
          html`<image id="${id}" href="${url}" width="${width}" height="${height}" />`,
      )}
    </defs>
  </svg>`;
}

/** The image alone. */
export function plainPicture(image: PageImage, description: string): Html {
  return picture(image, description, '');
}

/**
 * The image with what did not reach the language model in the dark, and frames around what was merged.
 * @param light [rows * columns], in [0, 1]
 * @param merged [rows * columns], the same number for tokens in one frame; null for no frames
 */
export function litPicture(
  image: PageImage,
  place: Place,
  light: readonly number[],
  merged: readonly number[] | null,
  description: string,
): Html {
  const { grid } = place;
  const darkness = light.map((value) => Math.round((1 - value) * LEVELS));
  const levels = Array.from({ length: LEVELS }, (_, index) => index + 1);
  const shades = levels.map((level) => {
    const cells = cellsPath(darkness, level, grid.columns);
    const d = level === LEVELS ? `${aroundPath(place)}${cells}` : cells;
    return d === ''
      ? ''
      : html`<path fill="#000" fill-opacity="${(DIMMING * level) / LEVELS}" fill-rule="evenodd" d="${d}" />`;
  });
  const frames = merged && html`<path class="frames" d="${framesPath(merged, grid.columns)}" />`;
  return picture(
    image,
    description,
    html`<g transform="${ofGrid(image, place)}">${shades}${frames ?? ''}</g>`,
  );
}

/**
 * The image under the significance of its tokens: from the lowest, black, to the highest, yellow.
 * @param significance [rows * columns]
 */
export async function heatPicture(
  image: PageImage,
  place: Place,
  significance: Float32Array,
  description: string,
): Promise<Html> {
  const { rows, columns } = place.grid;
  const lowest = Math.min(...significance);
  const range = Math.max(...significance) - lowest || 1;
  const pixels = Buffer.from(
    [...significance].flatMap((value) => rgb(interpolateInferno((value - lowest) / range))),
  );
  const png = await sharp(pixels, { raw: { width: columns, height: rows, channels: 3 } })
    .png({ palette: false })
    .toBuffer();
  return picture(
    image,
    description,
    html`<g transform="${ofGrid(image, place)}">
      <image
        class="heat"
        href="${dataUrl(png, 'png')}"
        width="${columns}"
        height="${rows}"
        preserveAspectRatio="none"
      />
    </g>`,
  );
}

function picture({ id, width, height }: PageImage, description: string, over: Html | string): Html {
  return html`<svg class="picture" viewBox="0 0 ${width} ${height}" role="img" aria-label="${description}">
    <use href="#${id}" />
    ${over}
  </svg>`;
}

/** From units of the grid's cells to pixels of the image. */
function ofGrid({ width, height }: PageImage, { grid, region }: Place): string {
  const scale = [(region.width * width) / grid.columns, (region.height * height) / grid.rows];
  return `translate(${region.left * width} ${region.top * height}) scale(${scale.join(' ')})`;
}

/** The cells of one level of darkness, those side by side as one rectangle. */
function cellsPath(darkness: readonly number[], level: number, columns: number): string {
  let path = '';
  for (let start = 0; start < darkness.length; start++) {
    if (darkness[start] !== level) continue;
    let end = start + 1;
    while (end % columns !== 0 && darkness[end] === level) end++;
    path += `M${start % columns} ${Math.floor(start / columns)}h${end - start}v1h${start - end}z`;
    start = end - 1;
  }
  return path;
}

/** The edges between neighbouring cells of different frames. */
function framesPath(merged: readonly number[], columns: number): string {
  let path = '';
  for (const [cell, frame] of merged.entries()) {
    const [row, column] = [Math.floor(cell / columns), cell % columns];
    if (column + 1 < columns && merged[cell + 1] !== frame) path += `M${column + 1} ${row}v1`;
    if (cell + columns < merged.length && merged[cell + columns] !== frame) path += `M${column} ${row + 1}h1`;
  }
  return path;
}

/**
 * Everything around the grid, which the encoder never saw, in units of cells: the whole image less the grid.
 */
function aroundPath({ grid: { rows, columns }, region }: Place): string {
  const { left, top, width, height } = region;
  if (left <= 0 && top <= 0 && left + width >= 1 && top + height >= 1) return '';
  const [x, y] = [(-left / width) * columns, (-top / height) * rows];
  return `M${x} ${y}h${columns / width}v${rows / height}h${-columns / width}zM0 0h${columns}v${rows}h${-columns}z`;
}

/** The numbers of a colour written `#rrggbb` or `rgb(r, g, b)`. */
function rgb(colour: string): number[] {
  return colour.startsWith('#')
    ? [1, 3, 5].map((index) => Number.parseInt(colour.slice(index, index + 2), 16))
    : (colour.match(/\d+/g) ?? []).map(Number);
}

function dataUrl(bytes: Buffer, type: string): string {
  return `data:image/${type};base64,${bytes.toString('base64')}`;
}
