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
  const cosines = new Float64Array(length);
  for (let row = 0; row < of.length; row++) {
    const token = of[row];
    dotProducts(keys, token, channels, cosines);
    for (let j = 0; j < length; j++) cosines[j] *= inverseNorms[token] * inverseNorms[j];
    cosines[token] = -Infinity; // never its own neighbour
    result.set(topIndices(cosines, neighbours), row * neighbours);
  }
  return result;
}

/** The dot products of one token's key with all: [N] into `products`. Four at a time, since one sum waits for its every addition: twice as fast. */
function dotProducts(keys: Float32Array, token: number, channels: number, products: Float64Array): void {
  const key = Float64Array.from(keys.subarray(token * channels, (token + 1) * channels));
  const quads = products.length - (products.length % 4);
  for (let j = 0; j < quads; j += 4) {
    const [first, second, third, fourth] = [j, j + 1, j + 2, j + 3].map((other) => other * channels);
    let [a, b, c, e] = [0, 0, 0, 0];
    for (let d = 0; d < channels; d++) {
      const value = key[d];
      a += value * keys[first + d];
      b += value * keys[second + d];
      c += value * keys[third + d];
      e += value * keys[fourth + d];
    }
    products.set([a, b, c, e], j);
  }
  for (let j = quads; j < products.length; j++) {
    products[j] = key.reduce((sum, value, d) => sum + value * keys[j * channels + d], 0);
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
