/** How alike rows of a signal [N, D] are: all of them to some of them, or to rows from elsewhere. */
import { InvalidArgumentError } from './errors.js';
import { checkIndices, inverseRowNorms, rowWidth, scaleRows, type RowProducts } from './nearest-rows.js';

/** `'cosine'`: 0 for a row of norm 0; `'dot'`: the plain product. */
export type SimilarityMeasure = 'cosine' | 'dot';

/** What rows are compared with: some of them, by their indices [Q], or other rows [Q, D]. */
export type ComparedRows = Uint32Array | Float32Array;

/**
 * The similarity of every row to each of `to`, most of the work done by `products`.
 * @param rows [length, D]
 * @returns [Q, length] row-major
 * @throws as {@link Similarity.cosines}, and what `products` throws
 */
export async function similarityWith(
  products: RowProducts,
  rows: Float32Array,
  length: number,
  to: ComparedRows,
  measure: SimilarityMeasure,
): Promise<Float32Array> {
  const channels = rowWidth(rows, length);
  const norms = inverseRowNorms(rows, channels); // refuses NaN
  const isIndex = to instanceof Uint32Array;
  if (isIndex) checkIndices(to, length);
  else checkOthers(to, channels);
  if (to.length === 0) return new Float32Array(0);
  const compared = measure === 'dot' ? rows : scaleRows(rows, norms);
  if (isIndex) return products(gatherRows(compared, to, channels), compared, channels);
  const otherNorms = inverseRowNorms(to, channels);
  return products(measure === 'dot' ? to : scaleRows(to, otherNorms), compared, channels);
}

function checkOthers(to: unknown, channels: number): void {
  if (to instanceof Float32Array && to.length % channels === 0) return;
  const received = to instanceof Float32Array ? `${to.length} numbers` : to;
  throw new InvalidArgumentError(
    'to',
    received,
    `token indices (Uint32Array), or rows of ${channels} numbers`,
  );
}

/** Rows `indices` [Q] of `rows` [N, D]: [Q, D]. */
function gatherRows(rows: Float32Array, indices: Uint32Array, channels: number): Float32Array {
  const result = new Float32Array(indices.length * channels);
  for (const [row, token] of indices.entries()) {
    result.set(rows.subarray(token * channels, (token + 1) * channels), row * channels);
  }
  return result;
}

/** In plain JS, sums in float64: what runners replace by a faster one. */
export const plainProducts: RowProducts = async (rows, others, channels) => {
  const count = rows.length / channels;
  const length = others.length / channels;
  const products = new Float32Array(count * length);
  for (let row = 0, at = 0; row < count; row++) {
    for (let other = 0; other < length; other++) {
      let sum = 0;
      for (let d = 0; d < channels; d++) sum += rows[row * channels + d] * others[other * channels + d];
      products[at++] = sum;
    }
  }
  return products;
};
