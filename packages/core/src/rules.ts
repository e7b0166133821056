/** Rules: decisions simple enough for a runner to make them inside its graph. */
import type { Budget } from './budget.js';

/** Keeps, ascending, the tokens of the highest scores; ties to the lower index. */
export interface TopKRule {
  readonly rule: 'top-k';
  /** The name of a signal [N] in the method's `requires`. */
  readonly score: string;
  readonly budget: Budget;
}

/** A decision that a runner may lower into its graph. A union, so that a switch over it is exhaustive. */
export type GraphRule = TopKRule;

/**
 * The rule of methods that keep the tokens of the highest scores.
 * @example
 * const rule = topK('attention', { keepRatio: 0.25 });
 * defineReducer({ requires: { attention: promptAttention() }, rule, ... })
 */
export function topK(score: string, budget: Budget): TopKRule {
  return { rule: 'top-k', score, budget };
}
