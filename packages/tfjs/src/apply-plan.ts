import {
  InvalidArgumentError,
  isIdentity,
  picksTokens,
  selectionPlan,
  type ReductionPlan,
} from '@foveate/core';
import * as tf from '@tensorflow/tfjs-core';
import { checkTensor } from './tensors.js';

/**
 * Applies a plan to features on their device. Picking tokens copies their bits, and so does a maximum; sums
 * run in float32.
 * @param features [N, D] float32, finite
 * @returns [M, D], the caller's to dispose
 * @throws InvalidArgumentError where features is not [plan.inputLength, D]
 */
export function applyPlan(features: tf.Tensor, plan: ReductionPlan): tf.Tensor2D {
  const expected = `[${plan.inputLength}, D]`;
  checkTensor('features', features, [2], expected);
  const [length, channels] = (features as tf.Tensor2D).shape;
  if (length !== plan.inputLength || channels < 1) {
    throw new InvalidArgumentError('features.shape', features.shape, expected);
  }
  const tokens = features as tf.Tensor2D;
  return tf.tidy(() => {
    if (isIdentity(plan)) return tf.clone(tokens);
    if (picksTokens(plan)) return gatherTokens(tokens, plan.sources);
    // A product costs N multiplications a value put out, gathering about as much as eight for each source.
    return plan.combine === 'sum' && 8 * mostSources(plan) > plan.inputLength
      ? tf.matMul(denseMap(plan), tokens)
      : combineGathered(tokens, plan);
  });
}

/**
 * Keeps the tokens `indices` of features, in that order.
 * @param features [N, D] float32
 * @param indices distinct tokens, at least one
 * @returns [M, D], the caller's to dispose
 * @throws InvalidArgumentError on features of another shape; InvalidPlanError on an index out of range or
 * taken twice, and on none
 */
export function select(features: tf.Tensor, indices: ArrayLike<number>): tf.Tensor2D {
  checkTensor('features', features, [2], '[N, D]');
  return applyPlan(features, selectionPlan(indices, features.shape[0]));
}

/**
 * The rows `tokens` of features. By gatherND, which copies whole rows in wasm, where gather goes value by
 * value: fifteen times slower.
 */
function gatherTokens(features: tf.Tensor2D, tokens: Uint32Array): tf.Tensor2D {
  return tf.gatherND(
    features,
    tf.tensor2d(Int32Array.from(tokens), [tokens.length, 1], 'int32'),
  ) as tf.Tensor2D;
}

function mostSources({ offsets, outputLength }: ReductionPlan): number {
  let most = 0;
  for (let m = 0; m < outputLength; m++) most = Math.max(most, offsets[m + 1] - offsets[m]);
  return most;
}

/** The map as a matrix [M, N]. */
function denseMap({ inputLength, outputLength, offsets, sources, weights }: ReductionPlan): tf.Tensor2D {
  const map = new Float32Array(outputLength * inputLength);
  for (let m = 0; m < outputLength; m++) {
    for (let e = offsets[m]; e < offsets[m + 1]; e++) map[m * inputLength + sources[e]] = weights?.[e] ?? 1;
  }
  return tf.tensor2d(map, [outputLength, inputLength]);
}

/**
 * Combines the first sources of all outputs with their second ones, and so on; an output with fewer repeats
 * its first, with weight 0 in a sum.
 */
function combineGathered(features: tf.Tensor2D, plan: ReductionPlan): tf.Tensor2D {
  const { outputLength, offsets, sources, weights, combine } = plan;
  const place = (step: number): tf.Tensor2D => {
    const entries = Array.from({ length: outputLength }, (_, m) =>
      offsets[m] + step < offsets[m + 1] ? offsets[m] + step : undefined,
    );
    const tokens = Uint32Array.from(entries, (entry, m) => sources[entry ?? offsets[m]]);
    const gathered = gatherTokens(features, tokens); // [M, D]
    if (combine === 'max') return gathered;
    const factors = entries.map((entry) => (entry === undefined ? 0 : (weights?.[entry] ?? 1)));
    return tf.mul(gathered, tf.tensor2d(factors, [outputLength, 1], 'float32'));
  };
  let result = place(0);
  for (let step = 1; step < mostSources(plan); step++) {
    const [before, next] = [result, place(step)];
    result = combine === 'max' ? tf.maximum(before, next) : tf.add(before, next);
    before.dispose();
    next.dispose();
  }
  return result;
}
