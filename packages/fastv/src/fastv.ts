import {
  checkBudget,
  checkChoice,
  defineReducer,
  resolveBudget,
  selectionPlan,
  topIndices,
  type Budget,
  type LanguageReducer,
  type SignalRequest,
} from '@foveate/core';

/** Options of {@link createFastv}. */
export interface FastvOptions {
  /**
   * K >= 1: layers 0 .. K-1 of the language model see every visual token, layer K and those above it the kept ones. Default 3, the official code's. In a
   * shallow model K decides what is saved: on average over its L layers there are (V * K + kept * (L - K)) / L visual tokens.
   */
  readonly layer?: number;
  /**
   * How many of all V visual tokens of the prompt to keep: `{ keepRatio }` in (0, 1], floor(V * keepRatio) tokens and at least 1; or `{ keepCount }`.
   * Default `{ keepRatio: 0.25 }`.
   */
  readonly budget?: Budget;
  /**
   * From where layer K-1 looks at the image: `'last'`, the last token of the prompt, as in the official code; `'mean'`, the average over every position
   * after the image, as in the paper. Default `'last'`.
   */
  readonly rows?: 'last' | 'mean';
}

/** What holds where an option is absent. */
export const fastvDefaults: Required<FastvOptions> = {
  layer: 3,
  budget: { keepRatio: 0.25 },
  rows: 'last',
};

/**
 * FastV (arXiv 2403.06764, section 4.1; official code: pkunlp-icler/FastV): keeps the visual tokens that layer K-1 of the language model attends to most,
 * mean over its heads; ties to the lower index, in their original order and places. All images of a prompt are ranked together, every text token stays.
 * `plan` is the reference for a runner that takes the top-k inside its graph. A reducer cannot see how many layers the model has: refusing a K that
 * leaves none to save, and warning where K is more than half of them, is the runner's part.
 * @throws InvalidArgumentError on an option out of its range
 */
export function createFastv(options: FastvOptions = {}): LanguageReducer {
  const { layer, budget, rows } = { ...fastvDefaults, ...options };
  checkBudget(budget);
  checkChoice('rows', rows, ['last', 'mean']);
  const score: SignalRequest = { signal: 'promptAttention', layer: layer - 1, rows };
  return defineReducer<LanguageReducer>({
    specificationVersion: 1,
    name: 'fastv',
    stage: 'language',
    layer,
    requires: [score],
    topK: { score, budget },
    plan: async (tokens) => {
      const { count, warnings } = resolveBudget(budget, tokens.length);
      const kept = topIndices(await tokens.signal(score), count);
      return selectionPlan(kept.sort(), tokens.length, { warnings });
    },
  });
}
