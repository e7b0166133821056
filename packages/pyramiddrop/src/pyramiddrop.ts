import {
  beforeLanguageLayer,
  BUDGET_GROUP,
  budgetOf,
  budgetOptions,
  defineOptions,
  defineReducer,
  identityPlan,
  integerOption,
  InvalidArgumentError,
  listOption,
  promptAttention,
  resolveBudget,
  scaledLayer,
  selectionPlan,
  numberOption,
  topIndicesAscending,
  type Budget,
  type OptionDefinition,
  type OptionsOf,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';
import { geometricRatios, LAYERS } from './schedule.js';

const mean = `in the mean over the layers of a model of ${LAYERS} layers, in place of ratios: each stage leaves the same share of what the one before it left`;

/** Takes the place of a budget, so that a budget takes its own. */
const ratiosOption: OptionDefinition<readonly number[]> = {
  ...listOption(
    numberOption({ from: 0, to: 1, default: 1 }, ''),
    [0.5, 0.25, 0.125],
    'share of the tokens that entered the language model which each stage leaves: floor(entered * ratio), at least 1',
  ),
  group: BUDGET_GROUP,
};

const options = defineOptions({
  ratios: ratiosOption,
  ...budgetOptions(undefined, {
    keepRatio: `share of the tokens, ${mean}`,
    keepCount: `number of tokens, ${mean}`,
  }),
  layers: listOption(
    integerOption({ from: 1, to: LAYERS - 1, default: 1 }, ''),
    [8, 16, 24],
    `stages: before which layers of a model of ${LAYERS} layers tokens are dropped, ascending; in a shallower model as far on the way, in a deeper one the same`,
  ),
});

/** Options of {@link pyramiddrop}; the README's table says what each does. */
export type PyramiddropOptions = OptionsOf<typeof options.schema>;

/**
 * PyramidDrop (arXiv 2410.17247; official code: Cooperx521/PyramidDrop, 6444f30): at each of three layers of
 * the language model keeps the visual tokens that the prompt's last token attends to most, fewer and fewer.
 * The attention is that of the layer behind the stage, by its own normalisation and projections of the tokens
 * as they are before it, mean over heads. Kept tokens stay in their order, and positions are counted anew
 * behind each stage. All images of a prompt are ranked together; ties to the lower index. Its own schedule
 * leaves 1/2, 1/4, 1/8 of the tokens, in the mean over 32 layers 47 %.
 * @throws InvalidArgumentError on an option out of its range, layers that do not ascend, ratios that are not
 * one a layer
 * @example
 * pyramiddrop({ ratios: [0.5, 0.25, 0.125] });
 */
export function pyramiddrop(given: PyramiddropOptions = {}): TokenReducer {
  const checked = options.check(given);
  const { layers, ratios } = checked;
  if (layers.some((layer, stage) => stage > 0 && layer <= layers[stage - 1])) {
    throw new InvalidArgumentError('layers', layers, 'ascending');
  }
  if (ratios && ratios.length !== layers.length) {
    throw new InvalidArgumentError('ratios', ratios, `one for each of the ${layers.length} layers`);
  }
  const budget = budgetOf(checked);
  return defineReducer({
    name: 'pyramiddrop',
    at: layers.map((layer) => beforeLanguageLayer(scaledLayer(layer, LAYERS))),
    requires: { attention: promptAttention({ layer: 'next', rows: 'last' }) },
    positions: 'renumbered',
    plan: async ({ length, entered = length, signals: { attention } }, _site, stage) => {
      const { left, warnings } = budget
        ? leftByBudget(budget, layers, entered, stage)
        : { left: Math.trunc(entered * (ratios?.[stage] ?? 1)), warnings: [] }; // the official code's int()
      if (left >= length) return identityPlan(length, { warnings });
      return selectionPlan(topIndicesAscending(attention, Math.max(1, left)), length, { warnings });
    },
  });
}

/** How `foveate` and other registries know the method. */
export const pyramiddropEntry: ReducerEntry = reducerEntry({
  name: 'pyramiddrop',
  description: 'fewer tokens at each of three layers, by what the prompt attends to there (PyramidDrop)',
  options,
  create: pyramiddrop,
});

/** Tokens that a stage leaves of those that entered, so that the mean over the layers is the budget. */
function leftByBudget(
  budget: Budget,
  layers: readonly number[],
  entered: number,
  stage: number,
): { left: number; warnings: readonly string[] } {
  const { count, warnings } = resolveBudget(budget, entered);
  if (count === entered) return { left: entered, warnings };
  const left = Math.floor(entered * geometricRatios(layers, count / entered)[stage] + 1e-9);
  const least = Math.ceil((entered * layers[0] + LAYERS - layers[0]) / LAYERS); // of one token at each stage
  if (count >= least) return { left, warnings };
  const unreached =
    `a mean of ${count} tokens is out of reach: layers 0 to ${layers[0] - 1} see all ${entered}, so that ${least} ` +
    `is the least, with one token behind them; choose earlier layers`;
  return { left, warnings: [...warnings, unreached] };
}
