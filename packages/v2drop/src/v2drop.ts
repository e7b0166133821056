import {
  beforeLanguageLayer,
  budgetOf,
  budgetOptions,
  defineOptions,
  defineReducer,
  layerOption,
  promptAttention,
  resolveBudget,
  selectionPlan,
  topIndicesAscending,
  topK,
  type OptionsOf,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';

const byDefault = { keepRatio: 0.25 };

const options = defineOptions({
  layer: layerOption(
    3,
    'K: layers 0 to K-1 of the language model see every visual token, those from K on the kept ones',
  ),
  ...budgetOptions(byDefault),
});

/** Options of {@link v2drop}; the README's table says what each does. */
export type V2dropOptions = OptionsOf<typeof options.schema>;

/**
 * Keeps the visual tokens that layer K-1 of the language model attends to most from the prompt's last token, ties to the lower index, in their
 * original order. A runner may carry out the `rule` inside its graph; `plan` says the same.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * v2drop({ layer: 2, keepRatio: 0.5 });
 */
export function v2drop(given: V2dropOptions = {}): TokenReducer {
  const checked = options.check(given);
  const budget = budgetOf(checked) ?? byDefault;
  return defineReducer({
    name: 'v2drop',
    at: [beforeLanguageLayer(checked.layer)],
    requires: { attention: promptAttention() },
    rule: topK('attention', budget),
    plan: async ({ length, signals }) => {
      const { count, warnings } = resolveBudget(budget, length);
      return selectionPlan(topIndicesAscending(signals.attention, count), length, { warnings });
    },
  });
}

/** How `foveate` and other registries know the method. */
export const v2dropEntry: ReducerEntry = reducerEntry({
  name: 'v2drop',
  description: 'the tokens that the last token of the prompt attends to most',
  options,
  create: v2drop,
});
