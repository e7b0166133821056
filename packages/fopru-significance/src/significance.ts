import { checkChoice, InvalidSignalError, type SignalRequest, type VisualTokens } from '@foveate/core';

/**
 * Which marginal of the attention is the significance: `'variance'` (FoPru, Eq. 4) the one of higher variance; the others are for ablations:
 * `'low-variance'` the one of lower variance, `'given'` and `'received'` always that one.
 */
export type SignificanceRule = 'variance' | 'low-variance' | 'given' | 'received';

/** Every {@link SignificanceRule}, the paper's first. */
export const significanceRules: readonly SignificanceRule[] = [
  'variance',
  'low-variance',
  'given',
  'received',
];

const given: SignalRequest = { signal: 'attentionGiven' };
const received: SignalRequest = { signal: 'attentionReceived' };

/**
 * The signals that {@link readSignificance} reads under a rule: what a reducer lists in its `requires`.
 * @throws InvalidArgumentError on an unknown rule
 */
export function significanceSignals(rule: SignificanceRule): readonly SignalRequest[] {
  switch (checkChoice('significance', rule, significanceRules)) {
    case 'given':
      return [given];
    case 'received':
      return [received];
    default:
      return [given, received];
  }
}

/**
 * The significance of each token (FoPru, arXiv 2411.14164, Eq. 2-4), from the attention of the layer that made the features, CLS left out.
 * @returns [N]
 * @throws FoveateError as `tokens.signal` does
 */
export async function readSignificance(tokens: VisualTokens, rule: SignificanceRule): Promise<Float32Array> {
  const [first, second] = await Promise.all(
    significanceSignals(rule).map((request) => tokens.signal(request)),
  );
  return rule === 'given' || rule === 'received' ? first : chooseByVariance(first, second, rule);
}

/**
 * Eq. 4: the attention given where its variance is higher than that of the attention received, else the attention received; `'low-variance'`
 * the other one. In an encoder without CLS every token gives 1 / N, so that received wins.
 * @param attentionGiven [N] mean over heads and keys (Eq. 2)
 * @param attentionReceived [N] mean over heads and queries (Eq. 3)
 * @returns one of the two
 * @throws InvalidSignalError where they differ in length
 */
export function chooseByVariance(
  attentionGiven: Float32Array,
  attentionReceived: Float32Array,
  rule: 'variance' | 'low-variance',
): Float32Array {
  if (attentionGiven.length !== attentionReceived.length) {
    throw new InvalidSignalError(
      'attentionReceived',
      `has ${attentionReceived.length} values where attentionGiven has ${attentionGiven.length}`,
    );
  }
  const givenVaries = variance(attentionGiven) > variance(attentionReceived);
  return givenVaries === (rule === 'variance') ? attentionGiven : attentionReceived;
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
