import type { AttentionMarginals, MarginalsOptions, TensorBackend } from './backend.js';
import { InvalidArgumentError, InvalidSignalError } from './errors.js';
import { nearestRows } from './nearest-rows.js';
import { applyPlan } from './plan-algebra.js';
import type { ReductionPlan } from './plan.js';
import {
  plainProducts,
  similarityWith,
  type ComparedRows,
  type SimilarityMeasure,
} from './row-similarity.js';

/** A tensor in the memory of JS: row-major data and its shape. */
export interface HostTensor {
  readonly data: Float32Array;
  readonly shape: readonly number[];
}

/**
 * The operations in plain JS: one pass over the data, sums in float64. The reference that every other backend
 * is held against.
 */
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
  nearest: async ({ data, shape }: HostTensor, of: Uint32Array, k: number) => {
    if (shape.length !== 2) throw new InvalidArgumentError('rows.shape', shape, '[N, D]');
    return nearestRows(data, shape[0], of, k);
  },
  similarity: async ({ data, shape }: HostTensor, to: ComparedRows, measure: SimilarityMeasure) => {
    if (shape.length !== 2) throw new InvalidArgumentError('rows.shape', shape, '[N, D]');
    return similarityWith(plainProducts, data, shape[0], to, measure);
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

/** Heads H and side S of a map [H, S, S] or [1, H, S, S]. */
function checkAttentionShape(shape: readonly number[], classToken: boolean): [heads: number, side: number] {
  const [heads, rows, columns] = shape.length === 4 && shape[0] === 1 ? shape.slice(1) : shape;
  const valid = shape.length === 3 || (shape.length === 4 && shape[0] === 1);
  if (!valid || heads < 1 || rows !== columns || rows < (classToken ? 2 : 1)) {
    throw new InvalidArgumentError(
      'attention.shape',
      shape,
      `[H, S, S] or [1, H, S, S] with at least one token${classToken ? ' beside CLS' : ''}`,
    );
  }
  return [heads, rows];
}
