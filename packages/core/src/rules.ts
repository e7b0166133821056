/** Rules: decisions simple enough for a runner to make them inside its graph. */
import type { Budget } from './budget.js';
import type { MergeAmount } from './merge-amount.js';

/** Keeps, ascending, the tokens of the highest scores; ties to the lower index. */
export interface TopKRule {
  readonly rule: 'top-k';
  /** The name of a signal [N] in the method's `requires`. */
  readonly score: string;
  readonly budget: Budget;
}

/**
 * Merges tokens in every layer of the vision encoder by bipartite soft matching (ToMe, arXiv 2210.09461,
 * section 3). Of each two tokens in turn, prefix tokens counted, the first may be merged into the second one
 * of highest cosine; the r of highest cosine are, and prefix tokens take no part. An output is the average of
 * its tokens weighted by their sizes; first ones that are left come first, ascending or, in an encoder
 * without prefix tokens, by descending cosine. In later layers log(size) is added to the attention scores.
 */
export interface MergeBipartiteRule {
  readonly rule: 'merge-bipartite';
  /** The name of a {@link SimilarityRequest} in the method's `requires`. */
  readonly metric: string;
  readonly amount: MergeAmount;
}

/** A decision that a runner may lower into its graph. A union, so that a switch over it is exhaustive. */
export type GraphRule = TopKRule | MergeBipartiteRule;

/**
 * The rule of methods that keep the tokens of the highest scores.
 * @example
 * const rule = topK('attention', { keepRatio: 0.25 });
 * defineReducer({ requires: { attention: promptAttention() }, rule, ... })
 */
export function topK(score: string, budget: Budget): TopKRule {
  return { rule: 'top-k', score, budget };
}

/**
 * The rule of methods that merge tokens inside the encoder's layers.
 * @example
 * const rule = mergeBipartite('similar', { keepRatio: 0.25 });
 * const requires = { similar: similarityBy(keys({ layer: 'before', heads: 'mean' })) };
 * defineReducer({ at: [insideVisionLayers], requires, rule, ... })
 */
export function mergeBipartite(metric: string, amount: MergeAmount): MergeBipartiteRule {
  return { rule: 'merge-bipartite', metric, amount };
}
