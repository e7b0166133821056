import {
  atFeatures,
  budgetOf,
  budgetOptions,
  classAttention,
  defineOptions,
  defineReducer,
  features,
  identityPlan,
  numberOption,
  resolveBudget,
  selectionPlan,
  similarityBy,
  type OptionsOf,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';
import { bestCovering } from './best-covering.js';

const byDefault = { keepRatio: 0.25 };

const options = defineOptions({
  ...budgetOptions(byDefault),
  alpha: numberOption(
    { from: 0, default: 1 },
    'power of the class attention that a token’s gain of coverage is multiplied by; at 0 coverage alone decides',
  ),
});

/** Options of {@link scope}; the README's table says what each does. */
export type ScopeOptions = OptionsOf<typeof options.schema>;

/**
 * SCOPE (arXiv 2510.24214; official code: kinredon/SCOPE): keeps the tokens that together cover the image,
 * that is have every token like one of them, each weighed by how much the class token attends to it; in their
 * original order. Encoders without a class token (SigLIP) cannot give that attention.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * scope({ keepCount: 64 });
 */
export function scope(given: ScopeOptions = {}): TokenReducer {
  const checked = options.check(given);
  const { alpha } = checked;
  const budget = budgetOf(checked) ?? byDefault;
  return defineReducer({
    name: 'scope',
    at: [atFeatures],
    requires: { similar: similarityBy(features()), attention: classAttention({ heads: 'mean' }) },
    plan: async ({ length, signals: { similar, attention } }) => {
      const { count, warnings } = resolveBudget(budget, length);
      if (count === length) return identityPlan(length, { warnings });
      const all = Uint32Array.from({ length }, (_, token) => token);
      const kept = bestCovering(await similar.cosines(all), powersOf(attention, alpha), count);
      return selectionPlan(kept.sort(), length, { warnings });
    },
  });
}

/**
 * [N] the attention to the power of `alpha`, as shares of the highest: only ratios matter, and a high power
 * of a small number would be 0. Where there is no attention at all, coverage alone decides.
 */
function powersOf(attention: Float32Array, alpha: number): Float64Array {
  const highest = attention.reduce((left, right) => Math.max(left, right));
  return Float64Array.from(attention, (value) => (highest === 0 ? 1 : (value / highest) ** alpha));
}

/** How `foveate` and other registries know the method. */
export const scopeEntry: ReducerEntry = reducerEntry({
  name: 'scope',
  description: 'the tokens that cover the others, weighed by class attention (SCOPE)',
  options,
  create: scope,
});
