import {
  checkChoice,
  checkScoreBudget,
  defineReducer,
  resolveScoreBudget,
  selectionPlan,
  topIndices,
  topIndicesAscending,
  type ScoreBudget,
  type VisionReducer,
} from '@foveate/core';
import { readSignificance, significanceSignals, type SignificanceRule } from '@foveate/fopru-significance';

/** Options of {@link createFopruRank}. */
export interface FopruRankOptions {
  /**
   * How many tokens to keep: `{ keepRatio }` in (0, 1], floor(N * keepRatio) tokens and at least 1; `{ keepCount }`; or `{ attentionMass }`, the fewest
   * that hold that share of the significance. Default `{ keepRatio: 0.25 }`.
   */
  readonly budget?: ScoreBudget;
  /** Which marginal of the attention is the significance: see `@foveate/fopru-significance`. Default `'variance'`, the paper's. */
  readonly significance?: SignificanceRule;
  /** Whether kept tokens stand in their original order; false: by descending significance. Default true. */
  readonly reorder?: boolean;
}

/** What holds where an option is absent. */
export const fopruRankDefaults: Required<FopruRankOptions> = {
  budget: { keepRatio: 0.25 },
  significance: 'variance',
  reorder: true,
};

/**
 * FoPru, rank-based (arXiv 2411.14164, section 3): keeps the tokens of the highest significance, ties to the lower index.
 * @throws InvalidArgumentError on an option out of its range
 */
export function createFopruRank(options: FopruRankOptions = {}): VisionReducer {
  const { budget, significance, reorder } = { ...fopruRankDefaults, ...options };
  checkScoreBudget(budget);
  checkChoice('reorder', reorder, [true, false]);
  return defineReducer<VisionReducer>({
    specificationVersion: 1,
    name: 'fopru-rank',
    stage: 'vision',
    requires: significanceSignals(significance),
    plan: async (tokens) => {
      const scores = await readSignificance(tokens, significance);
      const { count, warnings } = resolveScoreBudget(budget, scores);
      const kept = reorder ? topIndicesAscending(scores, count) : topIndices(scores, count);
      return selectionPlan(kept, tokens.length, { warnings });
    },
  });
}
