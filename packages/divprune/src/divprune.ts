import {
  atFeatures,
  budgetOf,
  budgetOptions,
  choiceOption,
  defineOptions,
  defineReducer,
  identityPlan,
  projectedFeatures,
  resolveBudget,
  selectionPlan,
  similarityBy,
  type Budget,
  type OptionsOf,
  type ResolvedBudget,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';
import { mostDiverse } from './most-diverse.js';

const byDefault = { keepRatio: 0.25 };

const options = defineOptions({
  ...budgetOptions(byDefault),
  preset: choiceOption(
    ['common', 'official-code'],
    'what keepRatio means: floor(N * keepRatio), as in every method here, or N * keepRatio rounded, halves to even',
  ),
});

/** Options of {@link divprune}; the README's table says what each does. */
export type DivpruneOptions = OptionsOf<typeof options.schema>;

/**
 * DivPrune (arXiv 2503.02175, section 3; official code: vbdi/divprune): keeps the tokens that are as far from
 * each other as a greedy choice finds them, by the cosines of what enters the language model, in their
 * original order. It looks at no attention and at no question, so that any encoder will do.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * divprune({ keepCount: 56 });
 */
export function divprune(given: DivpruneOptions = {}): TokenReducer {
  const { preset, ...checked } = options.check(given);
  const budget = budgetOf(checked) ?? byDefault;
  const resolve = preset === 'common' ? resolveBudget : resolveRounded;
  return defineReducer({
    name: 'divprune',
    at: [atFeatures],
    requires: { similar: similarityBy(projectedFeatures()) },
    plan: async ({ length, signals }) => {
      const { count, warnings } = resolve(budget, length);
      if (count === length) return identityPlan(length, { warnings });
      const all = Uint32Array.from({ length }, (_, token) => token);
      const kept = mostDiverse(await signals.similar.cosines(all), length, count);
      return selectionPlan(kept.sort(), length, { warnings });
    },
  });
}

/** As the official code counts: Python's round, of which halves go to the even number. At least 1. */
function resolveRounded(budget: Budget, length: number): ResolvedBudget {
  if (!('keepRatio' in budget)) return resolveBudget(budget, length);
  const exact = length * budget.keepRatio;
  const below = Math.floor(exact);
  const up = exact - below > 0.5 || (exact - below === 0.5 && below % 2 === 1);
  return { count: Math.max(1, below + Number(up)), warnings: [] };
}

/** How `foveate` and other registries know the method. */
export const divpruneEntry: ReducerEntry = reducerEntry({
  name: 'divprune',
  description: 'the tokens that are farthest from each other (DivPrune)',
  options,
  create: divprune,
});
