import {
  attentionReceived,
  beforeVisionLayer,
  budgetOf,
  budgetOptions,
  choiceOption,
  classAttention,
  defineOptions,
  defineReducer,
  layerOption,
  resolveBudget,
  scaledLayer,
  selectionPlan,
  topIndicesAscending,
  topK,
  type OptionsOf,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';

const byDefault = { keepRatio: 0.25 };

const options = defineOptions({
  layer: {
    ...layerOption(
      8,
      'K: layers 0 to K-1 of the vision encoder see every patch, layer K and those above it the kept ones; without it 8 of 24, in an encoder of other depth the one as far on the way',
    ),
    default: undefined,
  },
  ...budgetOptions(byDefault),
  signal: choiceOption(
    ['class', 'received'],
    'what ranks the patches in layer K-1, mean over its heads: the attention of the class token, or that of all patches, which encoders without a class token have',
  ),
});

/** Options of {@link earlyDrop}; the README's table says what each does. */
export type EarlyDropOptions = OptionsOf<typeof options.schema>;

/**
 * Keeps the patches that layer K-1 of the vision encoder attends to most, ties to the lower index, in their
 * original order, and drops the others there: the layers from K on, and all that follows, see fewer. The
 * criterion is that of FasterVLM (arXiv 2412.01818) and EViT (arXiv 2202.07800), read in the middle of the
 * encoder; nothing is fused of what is dropped, and nothing is trained. Tokens that are no patches stay. A
 * reducer cannot see how many layers the encoder has: refusing a K that leaves none is the runner's part.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * earlyDrop({ layer: 12, keepCount: 144 });
 */
export function earlyDrop(given: EarlyDropOptions = {}): TokenReducer {
  const checked = options.check(given);
  const { layer, signal } = checked;
  const budget = budgetOf(checked) ?? byDefault;
  const attention =
    signal === 'class'
      ? classAttention({ layer: 'before', heads: 'mean' })
      : attentionReceived({ layer: 'before' });
  return defineReducer({
    name: 'early-drop',
    at: [layer === undefined ? beforeVisionLayer(scaledLayer(8, 24)) : beforeVisionLayer(layer)],
    requires: { attention },
    rule: topK('attention', budget),
    plan: async ({ length, signals }) => {
      const { count, warnings } = resolveBudget(budget, length);
      return selectionPlan(topIndicesAscending(signals.attention, count), length, { warnings });
    },
  });
}

/** How `foveate` and other registries know the method. */
export const earlyDropEntry: ReducerEntry = reducerEntry({
  name: 'early-drop',
  description: 'from a third of the encoder on, the patches that the layer before attends to most',
  options,
  create: earlyDrop,
});
