import {
  checkBudget,
  defineReducer,
  resolveBudget,
  selectionPlan,
  topIndices,
  type Budget,
  type LanguageReducer,
  type SignalRequest,
} from '@foveate/core';

/** Options of {@link createMyMethod}. */
export interface MyMethodOptions {
  /** K >= 1: layers 0 .. K-1 of the language model see every visual token, layer K and those above it the kept ones. Default 3. */
  readonly layer?: number;
  /**
   * How many of all V visual tokens of the prompt to keep: `{ keepRatio }` in (0, 1], floor(V * keepRatio) tokens and at least 1; or `{ keepCount }`.
   * Default `{ keepRatio: 0.25 }`.
   */
  readonly budget?: Budget;
}

/** What holds where an option is absent. */
export const myMethodDefaults: Required<MyMethodOptions> = { layer: 3, budget: { keepRatio: 0.25 } };

/**
 * Keeps the visual tokens that layer K-1 of the language model attends to most from the prompt's last token, ties to the lower index, in their
 * original order. `plan` is the reference for a runner that takes the `topK` inside its graph.
 * @throws InvalidArgumentError on an option out of its range
 */
export function createMyMethod(options: MyMethodOptions = {}): LanguageReducer {
  const { layer, budget } = { ...myMethodDefaults, ...options };
  checkBudget(budget);
  const score: SignalRequest = { signal: 'promptAttention', layer: layer - 1, rows: 'last' };
  return defineReducer<LanguageReducer>({
    specificationVersion: 1,
    name: 'my-method',
    stage: 'language',
    layer,
    requires: [score],
    topK: { score, budget },
    plan: async (tokens) => {
      const attention = await tokens.signal(score); // [V]
      const { count, warnings } = resolveBudget(budget, tokens.length);
      return selectionPlan(topIndices(attention, count).sort(), tokens.length, { warnings });
    },
  });
}
