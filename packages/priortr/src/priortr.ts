import {
  beforeLanguageLayer,
  budgetOf,
  budgetOptions,
  choiceOption,
  defineOptions,
  defineReducer,
  identityPlan,
  layerOption,
  questionAttention,
  resolveBudget,
  scaledLayer,
  selectionPlan,
  topIndicesAscending,
  type OptionsOf,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';

const byDefault = { keepRatio: 0.25 };

/** Added to sums and to both sides of the ratio, as the official code has it. */
const epsilon = 1e-10;

const options = defineOptions({
  layer: {
    ...layerOption(
      3,
      'K: layers 0 to K-1 of the language model see every visual token, layer K and those above it the kept ones, chosen by the map of layer K-1; without it 3 of 32 layers or more, in a shallower model the one as far on the way',
    ),
    default: undefined,
  },
  ...budgetOptions(byDefault),
  rows: choiceOption(
    ['last', 'mean'],
    'the task’s attention: from the last token of the prompt (official code for LLaVA-1.6), or the mean over every token after the image (official code for LLaVA-1.5)',
  ),
});

/** Options of {@link priortr}; the README's table says what each does. */
export type PriortrOptions = OptionsOf<typeof options.schema>;

/**
 * PriorTR (official code: `strategy/priortr.py` of CodeChildCZJ/PriorTR, b819668): keeps the visual tokens to
 * which the task draws more attention than the image does by itself. P is what the prompt's last token pays
 * to them in a layer of the language model, mean over heads, Q what the first token behind the image pays,
 * which cannot see the question; both scaled to sum 1. The score is P log(P / Q); ties to the lower index,
 * kept tokens in their order and places. All images of a prompt are ranked together, with Q from behind the
 * last. Where only one token is behind the image, P is Q: then P alone is the score, and the plan says so.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * priortr({ keepCount: 128 });
 */
export function priortr(given: PriortrOptions = {}): TokenReducer {
  const checked = options.check(given);
  const { layer, rows } = checked;
  const budget = budgetOf(checked) ?? byDefault;
  return defineReducer({
    name: 'priortr',
    at: [layer === undefined ? beforeLanguageLayer(scaledLayer(3, 32)) : beforeLanguageLayer(layer)],
    requires: { attention: questionAttention() },
    plan: async ({ length, signals }) => {
      const { count, warnings } = resolveBudget(budget, length);
      if (count === length) return identityPlan(length, { warnings });
      const { scores, warnings: more } = scoreTokens(signals.attention, length, rows);
      return selectionPlan(topIndicesAscending(scores, count), length, { warnings: [...warnings, ...more] });
    },
  });
}

/** How `foveate` and other registries know the method. */
export const priortrEntry: ReducerEntry = reducerEntry({
  name: 'priortr',
  description: 'the tokens that the question draws more attention to than the image does by itself',
  options,
  create: priortr,
});

/**
 * What the task adds to the attention of each visual token.
 * @param attention [N, T]
 * @returns scores [N]
 */
function scoreTokens(
  attention: Float32Array,
  length: number,
  rows: 'last' | 'mean',
): { scores: Float64Array; warnings: readonly string[] } {
  const width = attention.length / length; // T
  const task = toShares(
    Float64Array.from({ length }, (_, token) => {
      const row = attention.subarray(token * width, (token + 1) * width);
      return rows === 'last' ? row[width - 1] : row.reduce((sum, value) => sum + value, 0) / width;
    }),
  );
  if (width === 1) {
    const warning =
      'one token alone stands behind the image, and is both the question and what cannot see it: its attention alone decides';
    return { scores: task, warnings: [warning] };
  }
  const prior = toShares(Float64Array.from({ length }, (_, token) => attention[token * width]));
  const scores = task.map((share, token) => share * Math.log((share + epsilon) / (prior[token] + epsilon)));
  return { scores, warnings: [] };
}

/** Scaled to sum 1; all 0 stay 0. */
function toShares(values: Float64Array): Float64Array {
  const total = values.reduce((sum, value) => sum + value, 0) + epsilon;
  return values.map((value) => value / total);
}
