import { attentionGiven, attentionReceived, InvalidSignalError, type SignalRequest } from '@foveate/core';

/**
 * Which marginal of the attention is the significance: `'variance'` (FoPru, Eq. 4) the one of higher
 * variance; the others are for ablations: `'low-variance'` the one of lower variance, `'given'` and
 * `'received'` always that one.
 */
export type SignificanceRule = (typeof significanceRules)[number];

/** Every {@link SignificanceRule}, the paper's first. */
export const significanceRules: readonly ['variance', 'low-variance', 'given', 'received'] = [
  'variance',
  'low-variance',
  'given',
  'received',
];

const given = attentionGiven();
const received = attentionReceived();

/**
 * The signals that {@link significance} reads under a rule: what a method lists in its `requires`, or spreads
 * into it.
 */
export function significanceSignals(rule: SignificanceRule): Readonly<Record<string, SignalRequest>> {
  switch (rule) {
    case 'given':
      return { given };
    case 'received':
      return { received };
    case 'variance':
    case 'low-variance':
      return { given, received };
  }
}

/**
 * The significance of each token (FoPru, arXiv 2411.14164, Eq. 2-4), from the attention of the layer that
 * made the features, CLS left out.
 * @param signals of {@link significanceSignals} for the same rule
 * @returns [N]
 * @throws InvalidSignalError where the two differ in length
 * @example
 * defineReducer({
 *   requires: significanceSignals('variance'),
 *   plan: async ({ signals, length }) => selectionPlan(topIndicesAscending(significance(signals, 'variance'), 8), length),
 *   ...
 * });
 */
export function significance(
  signals: Readonly<Record<string, Float32Array>>,
  rule: SignificanceRule,
): Float32Array {
  switch (rule) {
    case 'given':
      return signals.given;
    case 'received':
      return signals.received;
    case 'variance':
    case 'low-variance':
      return chooseByVariance(signals.given, signals.received, rule);
  }
}

/**
 * Eq. 4: the attention given where its variance is higher than that of the attention received, else the
 * attention received; `'low-variance'` the other one. In an encoder without CLS every token gives 1 / N, so
 * that received wins.
 * @param given [N] mean over heads and keys (Eq. 2)
 * @param received [N] mean over heads and queries (Eq. 3)
 * @returns one of the two
 * @throws InvalidSignalError where they differ in length
 */
export function chooseByVariance(
  given: Float32Array,
  received: Float32Array,
  rule: 'variance' | 'low-variance',
): Float32Array {
  if (given.length !== received.length) {
    throw new InvalidSignalError(
      'attentionReceived',
      `has ${received.length} values where attentionGiven has ${given.length}`,
    );
  }
  const givenVaries = variance(given) > variance(received);
  return givenVaries === (rule === 'variance') ? given : received;
}

/** Population variance, in two passes in float64. */
function variance(values: Float32Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  const mean = sum / values.length;
  let squares = 0;
  for (const value of values) squares += (value - mean) ** 2;
  return squares / values.length;
}
