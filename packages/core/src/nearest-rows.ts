/** Which tokens are alike by their rows of a signal [N, D]: of all that methods ask for, what costs most. */
import { InvalidArgumentError, InvalidSignalError } from './errors.js';
import { topIndices } from './top-indices.js';

/** The dot products of every row of [M, D] with every row of [N, D] in float32: [M, N] row-major. */
export type RowProducts = (
  rows: Float32Array,
  others: Float32Array,
  channels: number,
) => Promise<Float32Array>;

/**
 * In plain JS, for each token of `of` its min(k, N - 1) nearest other tokens; see {@link Similarity.nearest}.
 * @param rows [length, D]
 * @throws InvalidArgumentError on a shape that does not fit, `of` out of range, k below 1; InvalidSignalError
 * on NaN or Infinity
 */
export function nearestRows(rows: Float32Array, length: number, of: Uint32Array, k: number): Uint32Array {
  const { channels, inverseNorms, neighbours } = checkRows(rows, length, of, k);
  const result = new Uint32Array(of.length * neighbours);
  if (neighbours === 0) return result;
  const wide = new Float64Array(rows);
  const cosines = [new Float64Array(length), new Float64Array(length)];
  for (let row = 0; row < of.length; row += 2) {
    const pair = of.subarray(row, row + 2);
    dotProducts(wide, pair[0], pair.at(-1) ?? 0, channels, cosines);
    for (const [second, token] of pair.entries()) {
      const own = cosines[second];
      const inverseNorm = inverseNorms[token];
      for (let j = 0; j < length; j++) own[j] *= inverseNorm * inverseNorms[j];
      own[token] = -Infinity; // never its own neighbour
      result.set(topIndices(own, neighbours), (row + second) * neighbours);
    }
  }
  return result;
}

/**
 * The same tokens as {@link Similarity.nearest} gives, most of the work done by `products`: only cosines that
 * float32 cannot tell apart are computed again, exactly.
 * @param products must be as near as float32 sums in any order are
 * @param rows [length, D]
 * @returns [of.length, min(k, length - 1)] row-major
 * @throws as {@link TensorBackend.nearest}, and what `products` throws
 */
export async function nearestRowsWith(
  products: RowProducts,
  rows: Float32Array,
  length: number,
  of: Uint32Array,
  k: number,
): Promise<Uint32Array> {
  const { channels, inverseNorms, neighbours } = checkRows(rows, length, of, k);
  const result = new Uint32Array(of.length * neighbours);
  if (result.length === 0) return result;
  const unit = scaleRows(rows, inverseNorms);
  const chosen = new Float32Array(of.length * channels);
  for (const [row, token] of of.entries()) {
    chosen.set(unit.subarray(token * channels, (token + 1) * channels), row * channels);
  }
  const estimates = await products(chosen, unit, channels); // [M, N]
  // Rounding rows and products moves a cosine by at most (D + 4) / 2^24, and so does the one that it is
  // compared with.
  const slack = (2 * (channels + 4)) / 2 ** 24;
  const exact = new Float64Array(length);
  const compareExactly = (one: number, other: number): number => exact[other] - exact[one] || one - other;
  const estimated = new Float64Array(length);
  for (const [row, token] of of.entries()) {
    estimated.set(estimates.subarray(row * length, (row + 1) * length));
    estimated[token] = -Infinity; // never its own neighbour
    const order = topWithin(estimated, neighbours, slack);
    for (let start = 0, end = 1; start < neighbours; start = end++) {
      while (end < order.length && estimated[order[end - 1]] - estimated[order[end]] <= slack) end++;
      if (end === start + 1) continue;
      const alike = order.subarray(start, end);
      for (const j of alike)
        exact[j] = dotProduct(rows, token, j, channels) * (inverseNorms[token] * inverseNorms[j]);
      alike.sort(compareExactly);
    }
    result.set(order.subarray(0, neighbours), row * neighbours);
  }
  return result;
}

/** As {@link topIndices}, and those whose scores are at most `slack` below the last of them. */
function topWithin(scores: Float64Array, count: number, slack: number): Uint32Array {
  const top = topIndices(scores, count);
  const lowest = scores[top[count - 1]] - slack;
  let within = 0;
  for (const score of scores) if (score >= lowest) within++;
  return within === count ? top : topIndices(scores, within);
}

/** What both ways need to know of the rows. */
function checkRows(
  rows: Float32Array,
  length: number,
  of: Uint32Array,
  k: number,
): { channels: number; inverseNorms: Float64Array; neighbours: number } {
  const channels = rowWidth(rows, length);
  if (!(Number.isSafeInteger(k) && k >= 1)) throw new InvalidArgumentError('k', k, 'a positive integer');
  checkIndices(of, length);
  return { channels, inverseNorms: inverseRowNorms(rows, channels), neighbours: Math.min(k, length - 1) };
}

/** D of rows [length, D]. @throws InvalidArgumentError */
export function rowWidth(rows: Float32Array, length: number): number {
  const channels = rows.length / length;
  if (Number.isInteger(channels) && channels > 0) return channels;
  throw new InvalidArgumentError('rows.length', rows.length, `a positive multiple of ${length} tokens`);
}

/** @throws InvalidArgumentError on an index out of range */
export function checkIndices(of: Uint32Array, length: number): void {
  const wrong = of.find((token) => token >= length);
  if (wrong !== undefined) throw new InvalidArgumentError('of', wrong, `token indices below ${length}`);
}

/** Rows [N, D], each times its factor. */
export function scaleRows(rows: Float32Array, factors: Float64Array): Float32Array {
  const channels = rows.length / factors.length;
  const scaled = new Float32Array(rows.length);
  let at = 0;
  for (const factor of factors) {
    for (const end = at + channels; at < end; at++) scaled[at] = rows[at] * factor;
  }
  return scaled;
}

/** Of the rows of two tokens, summed in the order of {@link dotProducts}. */
function dotProduct(rows: Float32Array, one: number, other: number, channels: number): number {
  const [x, y] = [one * channels, other * channels];
  let sum = 0;
  for (let d = 0; d < channels; d++) sum += rows[x + d] * rows[y + d];
  return sum;
}

/**
 * The dot products of the rows of two tokens with all, into `products` [2][N]. Two by four at a time, since
 * one sum waits for its every addition and every load serves several: four times as fast as one by one.
 */
function dotProducts(
  rows: Float64Array,
  one: number,
  other: number,
  channels: number,
  [ofOne, ofOther]: readonly Float64Array[],
): void {
  const x = one * channels;
  const y = other * channels;
  const quads = ofOne.length - (ofOne.length % 4);
  for (let j = 0; j < quads; j += 4) {
    const p = j * channels;
    const q = p + channels;
    const r = q + channels;
    const s = r + channels;
    let xp = 0;
    let xq = 0;
    let xr = 0;
    let xs = 0;
    let yp = 0;
    let yq = 0;
    let yr = 0;
    let ys = 0;
    for (let d = 0; d < channels; d++) {
      const a = rows[x + d];
      const b = rows[y + d];
      xp += a * rows[p + d];
      xq += a * rows[q + d];
      xr += a * rows[r + d];
      xs += a * rows[s + d];
      yp += b * rows[p + d];
      yq += b * rows[q + d];
      yr += b * rows[r + d];
      ys += b * rows[s + d];
    }
    ofOne[j] = xp;
    ofOne[j + 1] = xq;
    ofOne[j + 2] = xr;
    ofOne[j + 3] = xs;
    ofOther[j] = yp;
    ofOther[j + 1] = yq;
    ofOther[j + 2] = yr;
    ofOther[j + 3] = ys;
  }
  for (let j = quads; j < ofOne.length; j++) {
    [ofOne[j], ofOther[j]] = [0, 0];
    for (let d = 0; d < channels; d++) {
      ofOne[j] += rows[x + d] * rows[j * channels + d];
      ofOther[j] += rows[y + d] * rows[j * channels + d];
    }
  }
}

/** 1 / ||row|| of each token, 0 for a row of norm 0, so that its cosines are 0. */
export function inverseRowNorms(rows: Float32Array, channels: number): Float64Array {
  return Float64Array.from({ length: rows.length / channels }, (_, token) => {
    let square = 0;
    for (let d = token * channels; d < (token + 1) * channels; d++) square += rows[d] * rows[d];
    if (!Number.isFinite(square)) {
      throw new InvalidSignalError('rows', `has NaN or Infinity at token ${token}`);
    }
    return square > 0 ? 1 / Math.sqrt(square) : 0;
  });
}
