import {
  atFeatures,
  budgetOf,
  budgetOptions,
  choiceOption,
  classAttention,
  defineOptions,
  defineReducer,
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
  ...budgetOptions(byDefault),
  heads: choiceOption(
    ['mean', 'joined'],
    'the class token’s attention: mean over the heads (paper), or of one head over all channels (as PruMerge reads it)',
  ),
});

/** Options of {@link fastervlm}; the README's table says what each does. */
export type FastervlmOptions = OptionsOf<typeof options.schema>;

/**
 * FasterVLM (arXiv 2412.01818, section 3.3; official code: Theia-4869/FasterVLM): keeps the tokens that the
 * class token attends to most in the layer that makes the features, ties to the lower index, in their
 * original order. Encoders without a class token (SigLIP) cannot give that attention.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * fastervlm({ keepRatio: 0.5 });
 */
export function fastervlm(given: FastervlmOptions = {}): TokenReducer {
  const checked = options.check(given);
  const { heads } = checked;
  const budget = budgetOf(checked) ?? byDefault;
  return defineReducer({
    name: 'fastervlm',
    at: [atFeatures],
    requires: { attention: classAttention({ heads }) },
    rule: topK('attention', budget),
    plan: async ({ length, signals }) => {
      const { count, warnings } = resolveBudget(budget, length);
      return selectionPlan(topIndicesAscending(signals.attention, count), length, { warnings });
    },
  });
}

/** How `foveate` and other registries know the method. */
export const fastervlmEntry: ReducerEntry = reducerEntry({
  name: 'fastervlm',
  description: 'the tokens that the class token attends to most (FasterVLM)',
  options,
  create: fastervlm,
});
