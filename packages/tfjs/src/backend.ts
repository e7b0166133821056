import {
  InvalidArgumentError,
  InvalidSignalError,
  type AttentionMarginals,
  type ComparedRows,
  type MarginalsOptions,
  type ReductionPlan,
  type SimilarityMeasure,
  type TensorBackend,
} from '@foveate/core';
import * as tf from '@tensorflow/tfjs-core';
import { applyPlan } from './apply-plan.js';
import { checkTensor } from './tensors.js';

/**
 * The operations of a `TensorBackend` on the tfjs backend that is active while they run; `name` is its name
 * in tfjs (`tensorflow`, `wasm`, `cpu`). The attention map is reduced where it is; vectors of N come down.
 */
export const tfjsBackend: TensorBackend<tf.Tensor> = Object.freeze({
  get name() {
    return tf.getBackend();
  },
  upload: (data: Float32Array, shape: readonly number[]) => {
    if (!(data instanceof Float32Array)) throw new InvalidArgumentError('data', data, 'a Float32Array');
    const size = shape.reduce((product, dimension) => product * dimension, 1);
    if (size !== data.length) throw new InvalidArgumentError('shape', shape, `one of ${data.length} values`);
    return tf.tensor(data, [...shape]);
  },
  download: async (tensor: tf.Tensor) => (await tensor.data()) as Float32Array,
  dispose: (tensor: tf.Tensor) => {
    tensor.dispose();
  },
  marginals: readMarginals,
  nearest,
  similarity,
  applyPlan: async (features: tf.Tensor, plan: ReductionPlan) => applyPlan(features, plan),
});

/** See {@link TensorBackend.marginals}. */
async function readMarginals(
  attention: tf.Tensor,
  { classToken }: MarginalsOptions,
): Promise<AttentionMarginals> {
  const [heads, side] = checkAttention(attention, classToken);
  const first = classToken ? 1 : 0;
  const length = side - first;
  const vectors = tf.tidy(() => {
    const mean = tf.reshape(meanOverHeads(tf.reshape(attention, [1, heads, side, side])), [side, side]);
    const tokens = tf.slice(mean, [first, first], [length, length]); // [N, N]
    const fromClass = tf.reshape(tf.slice(mean, [0, first], [1, length]), [length]);
    return tf.concat([tf.mean(tokens, 1), tf.mean(tokens, 0), fromClass]); // [3 * N]
  });
  const values = await downloadOnce(vectors);
  const vector = (index: number, signal: string): Float32Array => {
    const part = values.slice(index * length, (index + 1) * length);
    if (part.every(Number.isFinite)) return part;
    throw new InvalidSignalError(signal, 'has NaN or Infinity in its attention map');
  };
  return {
    given: vector(0, 'attentionGiven'),
    received: vector(1, 'attentionReceived'),
    ...(classToken && { classAttention: vector(2, 'classAttention') }),
  };
}

/**
 * The mean over the heads of each image's maps, in one pass over them. As a product, which wasm and cpu do
 * many times faster than a mean along an axis that is not the last; by a transposed matrix, since wasm copies
 * the factor of a plain product, here the maps, before it multiplies.
 * @param attention [B, H, S, S]
 * @returns [B, 1, S, S]
 */
export function meanOverHeads(attention: tf.Tensor4D): tf.Tensor4D {
  const [images, heads, side] = attention.shape;
  const flat: tf.Tensor3D = tf.reshape(attention, [images, heads, side * side]);
  return tf.reshape(tf.matMul(tf.fill([images, heads, 1], 1 / heads), flat, true), [images, 1, side, side]);
}

/** Heads H and side S of a map [H, S, S] or [1, H, S, S]. */
function checkAttention(attention: tf.Tensor, classToken: boolean): [heads: number, side: number] {
  const expected = `[H, S, S] or [1, H, S, S] with at least one token${classToken ? ' beside CLS' : ''}`;
  checkTensor('attention', attention, [3, 4], expected);
  const { shape } = attention;
  const [heads, rows, columns] = shape.slice(-3);
  const single = shape.length === 3 || shape[0] === 1;
  if (!single || heads < 1 || rows !== columns || rows < (classToken ? 2 : 1)) {
    throw new InvalidArgumentError('attention.shape', shape, expected);
  }
  return [heads, rows];
}

/** See {@link TensorBackend.nearest}. */
async function nearest(rows: tf.Tensor, of: Uint32Array, k: number): Promise<Uint32Array> {
  checkTensor('rows', rows, [2], '[N, D]');
  const [length, channels] = rows.shape;
  if (length < 1 || channels < 1) throw new InvalidArgumentError('rows.shape', rows.shape, '[N, D]');
  if (!(Number.isSafeInteger(k) && k >= 1)) throw new InvalidArgumentError('k', k, 'a positive integer');
  const wrong = of.find((token) => token >= length);
  if (wrong !== undefined) throw new InvalidArgumentError('of', wrong, `token indices below ${length}`);

  const neighbours = Math.min(k, length - 1);
  const [norms, indices] = tf.tidy(() => {
    const { unit, norms } = normalise(rows as tf.Tensor2D);
    return [norms, neighbours > 0 && of.length > 0 ? nearestOf(unit, of, neighbours) : undefined];
  });
  try {
    refuseBroken(await norms.data());
    return Uint32Array.from(indices ? await indices.data() : []);
  } finally {
    norms.dispose();
    indices?.dispose();
  }
}

/** See {@link TensorBackend.similarity}. */
async function similarity(
  rows: tf.Tensor,
  to: ComparedRows,
  measure: SimilarityMeasure,
): Promise<Float32Array> {
  checkTensor('rows', rows, [2], '[N, D]');
  const [length, channels] = rows.shape;
  if (length < 1 || channels < 1) throw new InvalidArgumentError('rows.shape', rows.shape, '[N, D]');
  checkCompared(to, length, channels);
  const [norms, values] = tf.tidy((): [tf.Tensor, tf.Tensor | undefined] => {
    const { unit, norms } = normalise(rows as tf.Tensor2D);
    if (to.length === 0) return [norms, undefined];
    const compared = measure === 'dot' ? (rows as tf.Tensor2D) : unit;
    return [norms, tf.matMul(comparedRows(compared, to, measure), tf.transpose(compared))]; // [Q, N]
  });
  try {
    refuseBroken(await norms.data());
    return values ? ((await values.data()) as Float32Array) : new Float32Array(0);
  } finally {
    norms.dispose();
    values?.dispose();
  }
}

/** @throws InvalidArgumentError, InvalidSignalError */
function checkCompared(to: ComparedRows, length: number, channels: number): void {
  if (to instanceof Uint32Array) {
    const wrong = to.find((token) => token >= length);
    if (wrong !== undefined) throw new InvalidArgumentError('to', wrong, `token indices below ${length}`);
    return;
  }
  if (!(to instanceof Float32Array) || to.length % channels > 0) {
    throw new InvalidArgumentError('to', to, `token indices (Uint32Array), or rows of ${channels} numbers`);
  }
  const broken = to.findIndex((value) => !Number.isFinite(value));
  if (broken >= 0)
    throw new InvalidSignalError('to', `has NaN or Infinity in row ${Math.floor(broken / channels)}`);
}

/** [Q, D]: some of the rows, or others, of norm 1 where cosines are asked for. */
function comparedRows(rows: tf.Tensor2D, to: ComparedRows, measure: SimilarityMeasure): tf.Tensor2D {
  if (to instanceof Uint32Array) {
    return tf.gatherND(rows, tf.expandDims(tf.tensor1d(Int32Array.from(to), 'int32'), 1)) as tf.Tensor2D;
  }
  const others = tf.tensor2d(to, [to.length / rows.shape[1], rows.shape[1]]);
  return measure === 'dot' ? others : normalise(others).unit;
}

/** @throws InvalidSignalError where a row's norm is no number */
function refuseBroken(norms: ArrayLike<number>): void {
  const broken = Array.from(norms).findIndex((value) => !Number.isFinite(value));
  if (broken < 0) return;
  throw new InvalidSignalError('rows', `has NaN or Infinity in the row of token ${broken}`);
}

/**
 * Keys [N, D] scaled to norm 1, those of norm 0 left 0; the norms [N, 1] are NaN for a key with NaN or
 * Infinity.
 */
function normalise(keys: tf.Tensor2D): { unit: tf.Tensor2D; norms: tf.Tensor2D } {
  // By its largest value first, so that no square overflows or vanishes.
  const largest = tf.max(tf.abs(keys), 1, true); // [N, 1]
  const scaled = tf.div(keys, tf.where(tf.equal(largest, 0), tf.onesLike(largest), largest));
  const norms: tf.Tensor2D = tf.sqrt(tf.sum(tf.square(scaled), 1, true)); // [N, 1]: 0, or in [1, sqrt(D)]
  return { unit: tf.div(scaled, tf.maximum(norms, 1)), norms };
}

/**
 * The `count` nearest others of each token of `of`: [of.length, count], ties to the lower index, which is how
 * tf.topk breaks them.
 */
function nearestOf(unit: tf.Tensor2D, of: Uint32Array, count: number): tf.Tensor {
  const length = unit.shape[0];
  const tokens = tf.tensor1d(Int32Array.from(of), 'int32');
  const chosen = tf.gatherND(unit, tf.expandDims(tokens, 1)) as tf.Tensor2D; // [M, D]
  const cosines = tf.matMul(chosen, tf.transpose(unit)); // [M, N]; wasm multiplies by a transposed matrix ten times slower
  const itself = tf.mul(tf.oneHot(tokens, length), 4); // below every cosine
  return tf.topk(tf.sub(cosines, itself), count).indices;
}

/** The values of a tensor that is not needed any more. */
async function downloadOnce(tensor: tf.Tensor): Promise<Float32Array> {
  try {
    return (await tensor.data()) as Float32Array;
  } finally {
    tensor.dispose();
  }
}
