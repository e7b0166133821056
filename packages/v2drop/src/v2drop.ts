import {
  beforeLanguageLayer,
  budgetOf,
  budgetOptions,
  defineOptions,
  defineReducer,
  hiddenChange,
  resolveBudget,
  scaledLayer,
  selectionPlan,
  topIndicesAscending,
  type Budget,
  type OptionsOf,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';
import { keepCounts, officialCount } from './keep-counts.js';

const options = defineOptions(
  budgetOptions(undefined, {
    keepRatio:
      'share of the tokens left on average over 32 layers; without a budget the official schedule, half, half of these, and one token: 203 of 576',
    keepCount: 'number of tokens left on average over 32 layers',
  }),
);

/** Options of {@link v2drop}; the README's table says what each does. */
export type V2dropOptions = OptionsOf<typeof options.schema>;

/**
 * V2Drop (official code: `V2Drop.py` of xuyang-liu16/V2Drop, 89eddbb): at three layers of the language model
 * keeps the visual tokens that the layer before moved farthest, by the L2 norm of what it put out less what
 * it read; ties to the lower index, in their order and places. It reads no attention, so that decoders with
 * fused attention run as they are. Without a budget it keeps what the official code does: half of the tokens,
 * half of these, and at last one alone. With one, these counts in proportion, so that as many as asked are
 * left on average over 32 layers. All images of a prompt are ranked together.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * v2drop({ keepRatio: 0.25 });
 */
export function v2drop(given: V2dropOptions = {}): TokenReducer {
  const budget = budgetOf(options.check(given));
  return defineReducer({
    name: 'v2drop',
    at: [3, 17, 22].map((layer) => beforeLanguageLayer(scaledLayer(layer, 32))),
    requires: { change: hiddenChange() },
    plan: async ({ length, entered = length, signals }, _site, stage) => {
      const { count, warnings } = budget
        ? countFor(budget, entered, stage)
        : { count: officialCount(length, stage), warnings: [] };
      const kept = topIndicesAscending(signals.change, Math.min(count, length));
      return selectionPlan(kept, length, { warnings });
    },
  });
}

/** How `foveate` and other registries know the method. */
export const v2dropEntry: ReducerEntry = reducerEntry({
  name: 'v2drop',
  description: 'stage by stage, the tokens that a layer moves farthest; no attention is read',
  options,
  create: v2drop,
});

function countFor(
  budget: Budget,
  entered: number,
  stage: number,
): { count: number; warnings: readonly string[] } {
  const { count, warnings } = resolveBudget(budget, entered);
  if (count === entered) return { count, warnings };
  const { kept, mean } = keepCounts(count, entered);
  if (stage > 0 || mean <= count) return { count: kept[stage], warnings };
  const warning = `${count} of ${entered} tokens cannot be had, as the first layers see all: ${mean.toFixed(1)} are left on average`;
  return { count: kept[stage], warnings: [...warnings, warning] };
}
