import {
  atFeatures,
  budgetOf,
  budgetOptions,
  classAttention,
  defineOptions,
  defineReducer,
  resolveBudget,
  selectionPlan,
  topIndicesAscending,
  type OptionsOf,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';

const byDefault = { keepRatio: 0.25 };

const options = defineOptions(budgetOptions(byDefault));

/** Options of {@link myMethod}; the README's table says what each does. */
export type MyMethodOptions = OptionsOf<typeof options.schema>;

/**
 * Keeps the tokens that the class token attends to most, ties to the lower index, in their original order.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * myMethod({ keepRatio: 0.5 });
 */
export function myMethod(given: MyMethodOptions = {}): TokenReducer {
  const budget = budgetOf(options.check(given)) ?? byDefault;
  return defineReducer({
    name: 'my-method',
    at: [atFeatures],
    requires: { attention: classAttention() },
    plan: async ({ length, signals }) => {
      const { count, warnings } = resolveBudget(budget, length);
      return selectionPlan(topIndicesAscending(signals.attention, count), length, { warnings });
    },
  });
}

/** How `foveate` and other registries know the method. */
export const myMethodEntry: ReducerEntry = reducerEntry({
  name: 'my-method',
  description: 'the tokens that the class token attends to most',
  options,
  create: myMethod,
});
