import {
  atFeatures,
  budgetOf,
  budgetOptions,
  classAttention,
  defineOptions,
  defineReducer,
  features,
  identityPlan,
  resolveBudget,
  selectionPlan,
  numberOption,
  similarityBy,
  topIndices,
  type OptionsOf,
  type Similarity,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';
import { dropRedundant } from './drop-redundant.js';

const byDefault = { keepRatio: 0.25 };

const options = defineOptions({
  ...budgetOptions(byDefault),
  importantRatio: numberOption(
    { from: 0, to: 1, default: 0.5 },
    'share of the kept tokens that are kept for their class attention, floor(count * importantRatio); the others for their diversity',
  ),
});

/** Options of {@link vispruner}; the README's table says what each does. */
export type VisprunerOptions = OptionsOf<typeof options.schema>;

/**
 * VisPruner (arXiv 2412.01818, from its second version on; official code: Theia-4869/VisPruner, aefa01a):
 * keeps the tokens that the class token attends to most, and of the others those that are least alike, which
 * are found by dropping a few of the most redundant again and again. Kept tokens stand in their original
 * order. Needs an encoder with a class token: for one without use fopru-rank, fopru-row or pooling.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * vispruner({ keepCount: 64 }); // 32 important tokens and 32 diverse ones
 */
export function vispruner(given: VisprunerOptions = {}): TokenReducer {
  const checked = options.check(given);
  const budget = budgetOf(checked) ?? byDefault;
  return defineReducer({
    name: 'vispruner',
    at: [atFeatures],
    requires: { attention: classAttention({ heads: 'mean' }), similar: similarityBy(features()) },
    plan: async ({ length, signals: { attention, similar } }) => {
      const { count, warnings } = resolveBudget(budget, length);
      if (count === length) return identityPlan(length, { warnings });
      const important = Math.floor(count * checked.importantRatio);
      const ranking = topIndices(attention, length);
      const diverse = await mostDiverse(ranking.subarray(important), count - important, similar);
      const kept = Uint32Array.from([...ranking.subarray(0, important), ...diverse]).sort();
      return selectionPlan(kept, length, { warnings });
    },
  });
}

/** How `foveate` and other registries know the method. */
export const visprunerEntry: ReducerEntry = reducerEntry({
  name: 'vispruner',
  description: 'half by class attention, half those least alike (VisPruner)',
  options,
  create: vispruner,
});

/** Of a pool of tokens, by descending class attention, the `count` that are left without the redundant. */
async function mostDiverse(pool: Uint32Array, count: number, similar: Similarity): Promise<number[]> {
  if (count === 0) return [];
  const cosines = await similar.cosines(pool); // [pool, N]
  const length = cosines.length / pool.length;
  const rowOf = new Uint32Array(length);
  for (const [row, token] of pool.entries()) rowOf[token] = row;
  const cosinesOf = (token: number): Float32Array =>
    cosines.subarray(rowOf[token] * length, (rowOf[token] + 1) * length);
  return dropRedundant([...pool], count, cosinesOf);
}
