/**
 * From an image's crops to the rows that the language model reads of it: what stands for padding is left out
 * before, the family's own rows come in behind.
 */
import { UnsupportedReducerError, type ReductionPlan } from '@foveate/core';
import { familyOf } from '../families/index.js';
import type {
  CropArrangement,
  FamilySettings,
  ImagePositions,
  ImageRow,
  ReducedImage,
  ResampledRow,
} from '../families/family.js';
import type { Features, PreparedImage, ReducedCrop } from './api.js';

/** What the language model reads in one place. */
interface EmbeddingRow {
  /** [D] */
  readonly values: Float32Array;
  /**
   * Of a visual token its crop, and its number among the crop's tokens that are left; null for a row of the
   * family's own, which is read as text is.
   */
  readonly origin: { readonly crop: number; readonly token: number } | null;
}

/** The rows of an image. */
export interface ImageRows {
  readonly rows: readonly EmbeddingRow[];
  /** Null: one behind the other. */
  readonly positions: ImagePositions | null;
}

/** The features of the tokens that do not stand for padding. */
export function leftOf(features: Features, left: CropArrangement['left']): Features {
  if (!left) return features;
  const width = features.data.length / features.length;
  const data = new Float32Array(left.length * width);
  for (const [i, token] of left.entries()) {
    data.set(features.data.subarray(token * width, (token + 1) * width), i * width);
  }
  return { data, length: left.length };
}

/**
 * The rows of an image.
 * @param crops what the language model can read of each, and the plans behind it that changed anything
 * @param embed [ids.length, D] of tokens of text
 * @throws BundleError where config.json lacks a row of the family's own
 */
export async function imageRows(
  { size, written }: Pick<PreparedImage, 'size' | 'written'>,
  crops: readonly ReducedCrop[],
  family: FamilySettings,
  embed: (ids: readonly number[]) => Promise<Float32Array>,
): Promise<ImageRows> {
  const reduced = crops.some(({ plans }) => plans.length > 0);
  const image: ReducedImage = { size, crops: crops.map(placesOf), written, reduced };
  const own = familyOf(family);
  const laidOut = own.layOut(image, family);
  const text = await embedText(laidOut, embed);
  let word = 0;
  const rows = laidOut.map((row): EmbeddingRow => {
    if ('embedding' in row) return { values: Float32Array.from(row.embedding), origin: null };
    if ('tokenId' in row) return { values: rowOf(text, word++), origin: null };
    if ('mix' in row) return { values: resampled(row, crops), origin: { crop: row.crop, token: row.token } };
    return { values: rowOf(crops[row.crop].features, row.token), origin: row };
  });
  return { rows, positions: own.positions?.(image, family) ?? null };
}

/**
 * The same rows where their anchors stood before anything was reduced, with the tokens that each stands for.
 * @throws UnsupportedReducerError where the language model reads more of an image than its tokens
 */
export function inPlace(
  image: ImageRows,
  crops: readonly ReducedCrop[],
): ImageRows & { readonly sizes: Float32Array | null } {
  const [crop] = crops;
  if (crops.length > 1 || image.positions || image.rows.some(({ origin }) => !origin)) {
    throw new UnsupportedReducerError(
      'Attention can be calibrated only where an image is one row of tokens behind the other; this model reads crops, or rows of its own between them. Use the method without restore.',
    );
  }
  const [first] = crop.plans;
  if (crop.plans.length === 0) return { ...image, sizes: null };
  const rows = placesOf(crop).map((place): [number, number, number] => [place, place, place]);
  return { ...image, positions: { rows, end: first.inputLength }, sizes: sizesOf(crop) };
}

/** How many of the first tokens each of those behind all plans was made of. */
function sizesOf({ plans: [first, ...later] }: ReducedCrop): Float32Array {
  const whole = later.reduce((plan, next) => sourcesThrough(plan, next), sourcesOf(first));
  return Float32Array.from(whole, ({ size }) => size);
}

function sourcesOf({ offsets, sources, outputLength }: ReductionPlan): ReadonlySet<number>[] {
  return Array.from(
    { length: outputLength },
    (_, m) => new Set(sources.subarray(offsets[m], offsets[m + 1])),
  );
}

/** The first tokens behind each output of a further plan. */
function sourcesThrough(before: readonly ReadonlySet<number>[], plan: ReductionPlan): ReadonlySet<number>[] {
  return sourcesOf(plan).map((middle) => new Set([...middle].flatMap((token) => [...before[token]])));
}

/** The embeddings of the rows that are text, in their order. */
async function embedText(
  rows: readonly ImageRow[],
  embed: (ids: readonly number[]) => Promise<Float32Array>,
): Promise<Features> {
  const ids = rows.flatMap((row) => ('tokenId' in row ? [row.tokenId] : []));
  return { data: ids.length > 0 ? await embed(ids) : new Float32Array(), length: ids.length };
}

function resampled({ mix }: ResampledRow, crops: readonly ReducedCrop[]): Float32Array {
  const rows = mix.map(({ crop, token }) => rowOf(crops[crop].features, token));
  return rows[0].map((_, d) => mix.reduce((sum, { weight }, i) => sum + weight * rows[i][d], 0));
}

function rowOf({ data, length }: Features, row: number): Float32Array {
  const width = data.length / length;
  return data.subarray(row * width, (row + 1) * width);
}

/** Where the outputs of a crop's plans stand among its tokens. */
function placesOf({ features, plans }: ReducedCrop): readonly number[] {
  const [first, ...later] = plans;
  if (plans.length === 0) return Array.from({ length: features.length }, (_, token) => token);
  return later.reduce(
    (places, { anchors }) => Array.from(anchors, (anchor) => places[anchor]),
    Array.from(first.anchors),
  );
}
