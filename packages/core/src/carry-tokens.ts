import { InvalidArgumentError } from './errors.js';
import { isIdentity, type ReductionPlan } from './plan.js';
import { checkSignal, type SignalRequest } from './signals.js';
import { createVisualTokens, type Span, type VisualTokens } from './visual-tokens.js';
import { nearestKeys } from './nearest-keys.js';

/**
 * The tokens that a plan leaves, as the next reducer of a chain sees them; signals follow their tokens, each when it is asked for:
 * - a selection restricts every signal;
 * - in a merge, `attentionReceived`, `classAttention` and `promptAttention` are summed over an output's sources, `attentionGiven` and `keys` are averaged
 *   with the output's weights scaled to sum 1 (equal ones for `combine: 'max'`, and where they sum to 0);
 * - `attentionShare` is about the encoder and stays.
 *
 * The grid survives exactly where the plan names the one that its outputs fill (`plan.grid`: whole rows, pooling) or is the identity. Each output belongs to the
 * span of its anchor; a span that lost all tokens has length 0. `nearest` works on the carried keys, in plain JS. The key stays.
 * @throws InvalidArgumentError where the plan is for another number of tokens, or mixes the order of several spans
 */
export function carryTokens(tokens: VisualTokens, plan: ReductionPlan): VisualTokens {
  if (plan.inputLength !== tokens.length) {
    throw new InvalidArgumentError('plan.inputLength', plan.inputLength, `the ${tokens.length} tokens`);
  }
  const grid = plan.grid ?? (isIdentity(plan) ? tokens.grid : undefined);
  const carried: VisualTokens = {
    ...createVisualTokens({
      length: plan.outputLength,
      ...(grid && { grid }),
      spans: carrySpans(tokens.spans, plan),
      key: tokens.key,
    }),
    signal: async (request) =>
      carrySignal(request, checkSignal(request, await tokens.signal(request), tokens.length), plan),
    nearest: async (of, k, layer = 'features') =>
      nearestKeys(await carried.signal({ signal: 'keys', layer }), plan.outputLength, of, k),
  };
  return carried;
}

function carrySignal(request: SignalRequest, values: Float32Array, plan: ReductionPlan): Float32Array {
  switch (request.signal) {
    case 'attentionShare':
      return values;
    case 'attentionGiven':
    case 'keys':
      return average(values, plan);
    default:
      return sum(values, plan);
  }
}

/** values [N] -> [M], each output the sum over its sources. */
function sum(values: Float32Array, { outputLength, offsets, sources }: ReductionPlan): Float32Array {
  return Float32Array.from({ length: outputLength }, (_, m) => {
    let total = 0;
    for (let e = offsets[m]; e < offsets[m + 1]; e++) total += values[sources[e]];
    return total;
  });
}

/** values [N, D] -> [M, D], each output the weighted mean of its sources. */
function average(values: Float32Array, plan: ReductionPlan): Float32Array {
  const { inputLength, outputLength, offsets, sources } = plan;
  const channels = values.length / inputLength; // D
  const result = new Float32Array(outputLength * channels);
  const mean = new Float64Array(channels);
  for (let m = 0; m < outputLength; m++) {
    const shares = meanWeights(plan, m);
    mean.fill(0);
    for (let e = offsets[m]; e < offsets[m + 1]; e++) {
      const start = sources[e] * channels;
      const share = shares[e - offsets[m]];
      for (let d = 0; d < channels; d++) mean[d] += share * values[start + d];
    }
    result.set(mean, m * channels);
  }
  return result;
}

/** The weights of output m scaled to sum 1; equal where there are none or their sum is 0. */
function meanWeights({ offsets, weights }: ReductionPlan, m: number): Float64Array {
  const count = offsets[m + 1] - offsets[m];
  const own = weights && Float64Array.from(weights.subarray(offsets[m], offsets[m + 1]));
  const total = own?.reduce((left, right) => left + right, 0) ?? 0;
  return own && total !== 0 ? own.map((weight) => weight / total) : new Float64Array(count).fill(1 / count);
}

function carrySpans(spans: readonly Span[], plan: ReductionPlan): Span[] {
  const owners = Array.from(plan.anchors, (anchor) =>
    spans.findIndex(({ start, length }) => anchor >= start && anchor < start + length),
  );
  if (owners.some((owner, m) => m > 0 && owner < owners[m - 1])) {
    throw new InvalidArgumentError('plan.anchors', plan.anchors, 'in the order of the spans (one an image)');
  }
  let start = 0;
  return spans.map((_, span) => {
    const length = owners.filter((owner) => owner === span).length;
    start += length;
    return { start: start - length, length };
  });
}
