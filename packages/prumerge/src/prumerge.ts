import {
  atFeatures,
  budgetOf,
  budgetOptions,
  choiceOption,
  classAttention,
  createPlan,
  defineOptions,
  defineReducer,
  identityPlan,
  keys,
  mergePlan,
  similarityBy,
  resolveBudget,
  topIndices,
  type Similarity,
  type OptionsOf,
  type ReductionPlan,
  type TokenReducer,
  type WeightedSources,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';
import { countOutliers, fillWithTopAndSample, keepTop, keepTopAndSample } from './kept-tokens.js';

const options = defineOptions({
  ...budgetOptions(undefined, {
    keepRatio: 'share of the tokens that go out, the extra one included, in place of the outlier rule',
    keepCount: 'number of tokens that go out, the extra one included, in place of the outlier rule',
  }),
  layer: choiceOption(
    ['features', 'last'],
    'encoder layer of class attention and keys: the one that made the features, or the very last (official code), which exported graphs often lack',
  ),
  preset: choiceOption(
    ['official-code', 'paper'],
    'an output is its token plus what is merged into it, by descending class attention; or the weighted average, kept tokens in their original order',
  ),
});

/**
 * Options of {@link prumerge} and {@link prumergePlus}; the README's table says what each does. Without a
 * budget the image decides: Q3 + 1.5 * (Q3 - Q1).
 */
export type PrumergeOptions = OptionsOf<typeof options.schema>;

/**
 * PruMerge (arXiv 2403.15388; official code: `token_prune_merge_advanced` in clip_encoder.py of
 * 42Shawn/LLaVA-PruMerge, 1ca8b2b): keeps the tokens of outstanding class attention, and merges into each its
 * 32 nearest by their keys, weighted with their class attention. One extra token, the last, is the weighted
 * sum of all that were not kept; where none stands out it is alone, with a warning. Needs an encoder with a
 * class token: for one without use fopru-rank, fopru-row or pooling.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * prumerge(); // the image decides how many tokens stay
 */
export function prumerge(given: PrumergeOptions = {}): TokenReducer {
  return define('prumerge', given, { keepOutliers: keepTop, keepCount: keepTop });
}

/**
 * PruMerge+ (official code: `token_prune_merge_advanced_plus`): as {@link prumerge}, but keeps an even sample
 * of the tokens too, about three for each outlier. There is no extra token where every token was kept.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * prumergePlus({ keepCount: 144 });
 */
export function prumergePlus(given: PrumergeOptions = {}): TokenReducer {
  return define('prumerge-plus', given, {
    keepOutliers: keepTopAndSample,
    keepCount: fillWithTopAndSample,
  });
}

/** How `foveate` and other registries know the method. */
export const prumergeEntry: ReducerEntry = reducerEntry({
  name: 'prumerge',
  description: 'those that stand out by class attention, the others merged into them',
  options,
  create: prumerge,
});

/** How `foveate` and other registries know the method. */
export const prumergePlusEntry: ReducerEntry = reducerEntry({
  name: 'prumerge-plus',
  description: 'PruMerge with an even sample of the tokens beside',
  options,
  create: prumergePlus,
});

/**
 * How a method chooses from all tokens by descending class attention: for a number of outliers, and so that
 * it keeps a given number.
 */
interface Choice {
  readonly keepOutliers: (ranking: Uint32Array, outliers: number) => number[];
  readonly keepCount: (ranking: Uint32Array, count: number) => number[];
}

function define(name: string, given: PrumergeOptions, { keepOutliers, keepCount }: Choice): TokenReducer {
  const checked = options.check(given);
  const budget = budgetOf(checked);
  const layer = checked.layer === 'last' ? -1 : checked.layer;
  const average = checked.preset === 'paper';

  const choose = (attention: Float32Array, outputs?: number): number[] => {
    const ranking = topIndices(attention, attention.length);
    const kept =
      outputs === undefined
        ? keepOutliers(ranking, countOutliers(attention))
        : keepCount(ranking, outputs - 1); // and the extra token
    return average ? kept.sort((a, b) => a - b) : kept;
  };
  return defineReducer({
    name,
    at: [atFeatures],
    requires: { attention: classAttention({ layer }), similar: similarityBy(keys({ layer })) },
    plan: async ({ length, signals: { attention, similar } }) => {
      const fixed = budget && resolveBudget(budget, length);
      if (fixed?.count === length) return identityPlan(length, { warnings: fixed.warnings });
      const kept = choose(attention, fixed?.count);
      const outputs = mergeAround(kept, await nearestTokens(similar, kept), attention);
      const warnings = fixed || kept.length > 0 ? [] : [nothingStandsOut(length)];
      return planAround(kept, average ? outputs.map(weightedAverage) : outputs, length, warnings);
    },
  });
}

function nothingStandsOut(length: number): string {
  return `no token's class attention stands out: all ${length} were merged into one`;
}

/** For each kept token its 32 nearest others, or all others where there are fewer. */
async function nearestTokens(similar: Similarity, kept: readonly number[]): Promise<Uint32Array[]> {
  if (kept.length === 0) return [];
  const nearest = await similar.nearest(Uint32Array.from(kept), 32); // [kept, width]
  const width = nearest.length / kept.length;
  return kept.map((_, m) => nearest.subarray(m * width, (m + 1) * width));
}

/** Each kept token plus its neighbours times their class attention; last, all others times theirs. */
function mergeAround(
  kept: readonly number[],
  neighbours: readonly Uint32Array[],
  attention: Float32Array,
): WeightedSources[] {
  const outputs = kept.map((token, m) => {
    const sources = Uint32Array.of(token, ...neighbours[m]).sort(); // ascending, as plans want them
    return { sources, weights: Array.from(sources, (source) => (source === token ? 1 : attention[source])) };
  });
  const isKept = new Set(kept);
  const others = Array.from(attention.keys()).filter((token) => !isKept.has(token));
  if (others.length === 0) return outputs;
  return [...outputs, { sources: others, weights: others.map((token) => attention[token]) }];
}

/** The same with weights that sum to 1. */
function weightedAverage({ sources, weights }: WeightedSources): WeightedSources {
  const values = Array.from(weights);
  const total = values.reduce((sum, weight) => sum + weight, 0);
  return total > 0 ? { sources, weights: values.map((weight) => weight / total) } : { sources, weights };
}

/**
 * Kept tokens take their own places, however much attention a neighbour holds; the extra token that of its
 * heaviest source.
 */
function planAround(
  kept: readonly number[],
  outputs: readonly WeightedSources[],
  length: number,
  warnings: readonly string[],
): ReductionPlan {
  const plan = mergePlan(outputs, length, { warnings });
  return createPlan({ ...plan, anchors: [...kept, ...plan.anchors.subarray(kept.length)] });
}
