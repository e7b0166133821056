import { InvalidArgumentError, PlanCompositionError } from './errors.js';
import { createPlan, isIdentity, picksTokens, type ReductionPlan } from './plan.js';

/**
 * The one plan that does `first`, then `second`: the sparse product second * first. Weights multiply and add
 * up in float64, anchors follow, warnings are those of both.
 * @throws PlanCompositionError where the lengths do not meet, or where one plan sums and the other takes the
 * maximum: no single plan does both, so apply them one after the other
 */
export function composePlans(first: ReductionPlan, second: ReductionPlan): ReductionPlan {
  if (first.outputLength !== second.inputLength) {
    throw new PlanCompositionError(
      `The first plan puts out ${first.outputLength} tokens, the second takes ${second.inputLength}.`,
    );
  }
  const grid = second.grid ?? (isIdentity(second) ? first.grid : undefined);
  const combine = productOperation(first, second);
  const { offsets, sources, weights } = multiply(first, second);
  return createPlan({
    inputLength: first.inputLength,
    offsets,
    sources,
    combine,
    ...(combine === 'sum' && { weights }),
    anchors: second.anchors.map((anchor) => first.anchors[anchor]),
    ...(grid && { grid }),
    warnings: [...first.warnings, ...second.warnings],
  });
}

/**
 * Applies a plan to features in plain JS, the reference of every {@link TensorBackend}. A selection copies
 * bits; sums run in float64.
 * @param features [N, D] row-major
 * @returns [M, D] row-major
 * @throws InvalidArgumentError where features is not a Float32Array of N rows
 */
export function applyPlan(plan: ReductionPlan, features: Float32Array): Float32Array {
  const { inputLength, outputLength, offsets, sources, weights } = plan;
  if (!(features instanceof Float32Array))
    throw new InvalidArgumentError('features', features, 'a Float32Array');
  const channels = features.length / inputLength; // D
  if (!(Number.isInteger(channels) && channels > 0)) {
    throw new InvalidArgumentError(
      'features.length',
      features.length,
      `a positive multiple of ${inputLength} tokens`,
    );
  }
  if (picksTokens(plan)) return pickRows(features, sources, channels);
  const result = new Float32Array(outputLength * channels); // [M, D]
  const accumulated = new Float64Array(channels);
  for (let m = 0; m < outputLength; m++) {
    if (weights) {
      addWeighted(features, sources, weights, offsets[m], offsets[m + 1], accumulated);
      result.set(accumulated, m * channels);
      continue;
    }
    accumulated.fill(-Infinity);
    for (let e = offsets[m]; e < offsets[m + 1]; e++) {
      const start = sources[e] * channels;
      for (let d = 0; d < channels; d++) accumulated[d] = Math.max(accumulated[d], features[start + d]);
    }
    result.set(accumulated, m * channels);
  }
  return result;
}

/**
 * The sum of weight * row over the sources from `start` to `end`, into `total` [D]. In their order, but two
 * at a time: half the passes.
 */
function addWeighted(
  features: Float32Array,
  sources: Uint32Array,
  weights: Float32Array,
  start: number,
  end: number,
  total: Float64Array,
): void {
  const channels = total.length;
  total.fill(0);
  let e = start;
  for (; e + 1 < end; e += 2) {
    const first = sources[e] * channels;
    const second = sources[e + 1] * channels;
    const one = weights[e];
    const other = weights[e + 1];
    for (let d = 0; d < channels; d++) {
      total[d] = total[d] + one * features[first + d] + other * features[second + d];
    }
  }
  if (e === end) return;
  const last = sources[e] * channels;
  for (let d = 0; d < channels; d++) total[d] += weights[e] * features[last + d];
}

/** Rows `sources` [M] of `features` [N, D], neighbours in one go. [M, D] */
function pickRows(features: Float32Array, sources: Uint32Array, channels: number): Float32Array {
  const result = new Float32Array(sources.length * channels);
  for (let m = 0; m < sources.length;) {
    const start = sources[m];
    let end = m + 1;
    while (end < sources.length && sources[end] === start + end - m) end++;
    result.set(features.subarray(start * channels, (start + end - m) * channels), m * channels);
    m = end;
  }
  return result;
}

function productOperation(first: ReductionPlan, second: ReductionPlan): 'sum' | 'max' {
  if (picksTokens(first)) return second.combine;
  if (picksTokens(second) || first.combine === second.combine) return first.combine;
  throw new PlanCompositionError(
    `A plan that takes the ${describe(second)} after one that takes the ${describe(first)} has no product that is one plan. ` +
      'Apply them one after the other.',
  );
}

function describe(plan: ReductionPlan): string {
  return plan.combine === 'max' ? 'maximum of tokens' : 'sum of tokens';
}

/** Sparse product second * first; absent weights count as 1 (where nothing is summed they are not used). */
function multiply(
  first: ReductionPlan,
  second: ReductionPlan,
): { offsets: number[]; sources: number[]; weights: number[] } {
  const product = new Float64Array(first.inputLength);
  const seenBy = new Int32Array(first.inputLength).fill(-1); // the last output that used a source
  const offsets = [0];
  const sources: number[] = [];
  const weights: number[] = [];
  for (let m = 0; m < second.outputLength; m++) {
    const row: number[] = [];
    for (let e = second.offsets[m]; e < second.offsets[m + 1]; e++) {
      const middle = second.sources[e];
      for (let f = first.offsets[middle]; f < first.offsets[middle + 1]; f++) {
        const source = first.sources[f];
        if (seenBy[source] !== m) {
          seenBy[source] = m;
          product[source] = 0;
          row.push(source);
        }
        product[source] += (second.weights?.[e] ?? 1) * (first.weights?.[f] ?? 1);
      }
    }
    row.sort((a, b) => a - b);
    for (const source of row) {
      sources.push(source);
      weights.push(product[source]);
    }
    offsets.push(sources.length);
  }
  return { offsets, sources, weights };
}
