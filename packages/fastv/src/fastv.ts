import {
  beforeLanguageLayer,
  budgetOf,
  budgetOptions,
  choiceOption,
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
    'K: layers 0 to K-1 of the language model see every visual token, layer K and those above it the kept ones; 3 is the official code’s',
  ),
  ...budgetOptions(byDefault),
  rows: choiceOption(
    ['last', 'mean'],
    'from where layer K-1 looks at the image: the last token of the prompt (official code), or the mean over every position after the image (paper)',
  ),
});

/** Options of {@link fastv}; the README's table says what each does. */
export type FastvOptions = OptionsOf<typeof options.schema>;

/**
 * FastV (arXiv 2403.06764, section 4.1; official code: pkunlp-icler/FastV): keeps the visual tokens that
 * layer K-1 of the language model attends to most, mean over its heads; ties to the lower index, in their
 * original order and places. All images of a prompt are ranked together, every text token stays. A reducer
 * cannot see how many layers the model has: refusing a K that leaves none to save, and warning where K is
 * more than half of them, is the runner's part. In a shallow model K decides what is saved: on average over
 * its L layers there are (V * K + kept * (L - K)) / L visual tokens.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * fastv({ layer: 2, keepCount: 128 });
 */
export function fastv(given: FastvOptions = {}): TokenReducer {
  const checked = options.check(given);
  const { layer, rows } = checked;
  const budget = budgetOf(checked) ?? byDefault;
  return defineReducer({
    name: 'fastv',
    at: [beforeLanguageLayer(layer)],
    requires: { attention: promptAttention({ layer: 'before', rows }) },
    rule: topK('attention', budget),
    plan: async ({ length, signals }) => {
      const { count, warnings } = resolveBudget(budget, length);
      return selectionPlan(topIndicesAscending(signals.attention, count), length, { warnings });
    },
  });
}

/** How `foveate` and other registries know the method. */
export const fastvEntry: ReducerEntry = reducerEntry({
  name: 'fastv',
  description: 'the tokens that a layer of the language model attends to most',
  options,
  create: fastv,
});
