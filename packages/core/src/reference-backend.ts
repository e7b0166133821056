import type { AttentionMarginals, MarginalsOptions, TensorBackend } from './backend.js';
import { InvalidArgumentError, InvalidSignalError } from './errors.js';
import { applyPlan } from './plan-algebra.js';
import type { ReductionPlan } from './plan.js';
import { topIndices } from './top-indices.js';

/** A tensor in the memory of JS: row-major data and its shape. */
export interface HostTensor {
  readonly data: Float32Array;
  readonly shape: readonly number[];
}

/** The operations in plain JS: one pass over the data, sums in float64. The reference that every other backend is held against. */
export const referenceBackend: TensorBackend<HostTensor> = Object.freeze({
  name: 'js',
  upload: (data: Float32Array, shape: readonly number[]) => {
    if (!(data instanceof Float32Array)) throw new InvalidArgumentError('data', data, 'a Float32Array');
    const size = shape.reduce((product, dimension) => product * dimension, 1);
    if (size !== data.length) throw new InvalidArgumentError('shape', shape, `one of ${data.length} values`);
    return { data, shape };
  },
  download: async ({ data }: HostTensor) => data,
  dispose: () => undefined,
  marginals: async ({ data, shape }: HostTensor, options: MarginalsOptions) =>
    attentionMarginals(data, shape, options),
  nearestKeys: async ({ data, shape }: HostTensor, of: Uint32Array, k: number) => {
    if (shape.length !== 2) throw new InvalidArgumentError('keys.shape', shape, '[N, D]');
    return nearestKeys(data, shape[0], of, k);
  },
  applyPlan: async ({ data, shape }: HostTensor, plan: ReductionPlan) => {
    if (shape.length !== 2 || shape[0] !== plan.inputLength) {
      throw new InvalidArgumentError('features.shape', shape, `[${plan.inputLength}, D]`);
    }
    return { data: applyPlan(plan, data), shape: [plan.outputLength, shape[1]] };
  },
});

/** See {@link TensorBackend.marginals}. */
function attentionMarginals(
  attention: Float32Array,
  shape: readonly number[],
  { classToken }: MarginalsOptions,
): AttentionMarginals {
  const [heads, side] = checkAttentionShape(shape, classToken);
  const first = classToken ? 1 : 0;
  const length = side - first;
  const given = new Float64Array(length);
  const received = new Float64Array(length);
  const fromClass = new Float64Array(length);
  let at = 0;
  for (let h = 0; h < heads; h++) {
    for (let i = 0; i < side; i++) {
      at += first; // the CLS column
      if (i < first) {
        for (let j = 0; j < length; j++) fromClass[j] += attention[at++];
        continue;
      }
      let sum = 0;
      for (let j = 0; j < length; j++) {
        const value = attention[at++];
        sum += value;
        received[j] += value;
      }
      given[i - first] += sum;
    }
  }
  const mean = (sums: Float64Array, count: number, name: string): Float32Array =>
    Float32Array.from(sums, (sum) => {
      if (!Number.isFinite(sum))
        throw new InvalidSignalError(name, 'has NaN or Infinity in its attention map');
      return sum / count;
    });
  return {
    given: mean(given, heads * length, 'attentionGiven'),
    received: mean(received, heads * length, 'attentionReceived'),
    ...(classToken && { classAttention: mean(fromClass, heads, 'classAttention') }),
  };
}

/** Heads H and side L of a map [H, L, L] or [1, H, L, L]. */
function checkAttentionShape(shape: readonly number[], classToken: boolean): [heads: number, side: number] {
  const [heads, rows, columns] = shape.length === 4 && shape[0] === 1 ? shape.slice(1) : shape;
  const valid = shape.length === 3 || (shape.length === 4 && shape[0] === 1);
  if (!valid || heads < 1 || rows !== columns || rows < (classToken ? 2 : 1)) {
    throw new InvalidArgumentError(
      'attention.shape',
      shape,
      `[H, L, L] or [1, H, L, L] with at least one token${classToken ? ' beside CLS' : ''}`,
    );
  }
  return [heads, rows];
}

/**
 * In plain JS, for each token of `of` its min(k, N - 1) nearest other tokens; see {@link VisualTokens.nearest}.
 * @param keys [length, D]
 * @throws InvalidArgumentError on a shape that does not fit, `of` out of range, k below 1; InvalidSignalError on NaN or Infinity
 */
export function nearestKeys(keys: Float32Array, length: number, of: Uint32Array, k: number): Uint32Array {
  const channels = keys.length / length; // D
  if (!(Number.isInteger(channels) && channels > 0)) {
    throw new InvalidArgumentError('keys.length', keys.length, `a positive multiple of ${length} tokens`);
  }
  if (!(Number.isSafeInteger(k) && k >= 1)) throw new InvalidArgumentError('k', k, 'a positive integer');
  const wrong = of.find((token) => token >= length);
  if (wrong !== undefined) throw new InvalidArgumentError('of', wrong, `token indices below ${length}`);

  const inverseNorms = inverseKeyNorms(keys, channels);
  const neighbours = Math.min(k, length - 1);
  const result = new Uint32Array(of.length * neighbours);
  if (neighbours === 0) return result;
  const wide = new Float64Array(keys);
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
 * The dot products of the keys of two tokens with all, into `products` [2][N]. Two by four at a time, since one sum waits for its every addition and
 * every load serves several: four times as fast as one by one.
 */
function dotProducts(
  keys: Float64Array,
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
      const a = keys[x + d];
      const b = keys[y + d];
      xp += a * keys[p + d];
      xq += a * keys[q + d];
      xr += a * keys[r + d];
      xs += a * keys[s + d];
      yp += b * keys[p + d];
      yq += b * keys[q + d];
      yr += b * keys[r + d];
      ys += b * keys[s + d];
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
      ofOne[j] += keys[x + d] * keys[j * channels + d];
      ofOther[j] += keys[y + d] * keys[j * channels + d];
    }
  }
}

/** 1 / ||key|| of each token, 0 for a key of norm 0, so that its cosines are 0. */
function inverseKeyNorms(keys: Float32Array, channels: number): Float64Array {
  return Float64Array.from({ length: keys.length / channels }, (_, token) => {
    let square = 0;
    for (let d = token * channels; d < (token + 1) * channels; d++) square += keys[d] * keys[d];
    if (!Number.isFinite(square)) {
      throw new InvalidSignalError('keys', `has NaN or Infinity in the key of token ${token}`);
    }
    return square > 0 ? 1 / Math.sqrt(square) : 0;
  });
}
