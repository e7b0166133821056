import {
  checkBudget,
  defineReducer,
  resolveBudget,
  selectionPlan,
  topIndices,
  type Budget,
  type VisionReducer,
} from '@foveate/core';

/** Options of {@link createMyMethod}. */
export interface MyMethodOptions {
  /**
   * How many tokens to keep: `{ keepRatio }` in (0, 1], floor(N * keepRatio) tokens and at least 1; or `{ keepCount }`. Default `{ keepRatio: 0.25 }`.
   */
  readonly budget?: Budget;
}

/** What holds where an option is absent. */
export const myMethodDefaults: Required<MyMethodOptions> = { budget: { keepRatio: 0.25 } };

/**
 * Keeps the tokens that the class token attends to most, ties to the lower index, in their original order.
 * @throws InvalidArgumentError on a budget out of its range
 */
export function createMyMethod(options: MyMethodOptions = {}): VisionReducer {
  const { budget } = { ...myMethodDefaults, ...options };
  checkBudget(budget);
  return defineReducer<VisionReducer>({
    specificationVersion: 1,
    name: 'my-method',
    stage: 'vision',
    requires: [{ signal: 'classAttention' }],
    plan: async (tokens) => {
      const attention = await tokens.signal({ signal: 'classAttention' }); // [N]
      const { count, warnings } = resolveBudget(budget, tokens.length);
      return selectionPlan(topIndices(attention, count).sort(), tokens.length, { warnings });
    },
  });
}
