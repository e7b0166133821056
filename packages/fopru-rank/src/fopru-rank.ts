import {
  atFeatures,
  choiceOption,
  defineOptions,
  defineReducer,
  resolveScoreBudget,
  scoreBudgetOf,
  scoreBudgetOptions,
  selectionPlan,
  topIndices,
  topIndicesAscending,
  type OptionsOf,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';
import { significance, significanceRules, significanceSignals } from '@foveate/fopru-significance';

const byDefault = { keepRatio: 0.25 };

const options = defineOptions({
  ...scoreBudgetOptions(byDefault),
  significance: choiceOption(
    significanceRules,
    'marginal of the attention that ranks the tokens; variance is the paper’s',
  ),
  order: choiceOption(
    ['original', 'score'],
    'order of the kept tokens: as they stood, or by descending significance',
  ),
});

/** Options of {@link fopruRank}; the README's table says what each does. */
export type FopruRankOptions = OptionsOf<typeof options.schema>;

/**
 * FoPru, rank-based (arXiv 2411.14164, section 3): keeps the tokens of the highest significance, ties to the
 * lower index.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * fopruRank({ keepRatio: 0.25 });
 */
export function fopruRank(given: FopruRankOptions = {}): TokenReducer {
  const checked = options.check(given);
  const budget = scoreBudgetOf(checked) ?? byDefault;
  return defineReducer({
    name: 'fopru-rank',
    at: [atFeatures],
    requires: significanceSignals(checked.significance),
    plan: async ({ length, signals }) => {
      const scores = significance(signals, checked.significance);
      const { count, warnings } = resolveScoreBudget(budget, scores);
      const top = checked.order === 'original' ? topIndicesAscending : topIndices;
      return selectionPlan(top(scores, count), length, { warnings });
    },
  });
}

/** How `foveate` and other registries know the method. */
export const fopruRankEntry: ReducerEntry = reducerEntry({
  name: 'fopru-rank',
  description: 'FoPru by rank: the tokens of the highest significance',
  options,
  create: fopruRank,
});
