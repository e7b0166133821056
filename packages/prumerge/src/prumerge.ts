import {
  checkBudget,
  checkChoice,
  createPlan,
  defineReducer,
  identityPlan,
  mergePlan,
  resolveBudget,
  SignalUnavailableError,
  topIndices,
  type Budget,
  type ReductionPlan,
  type VisionReducer,
  type VisualTokens,
  type WeightedSources,
} from '@foveate/core';
import { countOutliers, fillWithTopAndSample, keepTop, keepTopAndSample } from './kept-tokens.js';

/** Options of {@link createPrumerge} and {@link createPrumergePlus}. */
export interface PrumergeOptions {
  /**
   * How many tokens go out, the extra one included. `'outliers'`: the image decides, by the tokens whose class attention lies above
   * Q3 + 1.5 * (Q3 - Q1). `{ keepCount }` or `{ keepRatio }` in (0, 1]: so many. Default `'outliers'`.
   */
  readonly budget?: Budget | 'outliers';
  /**
   * The encoder layer of class attention and keys: `'features'`, the one that made the features, or `'last'`, the official code's, which exported graphs
   * often lack. Default `'features'`.
   */
  readonly layer?: 'features' | 'last';
  /**
   * Where the official code and the paper differ. `'official-code'`: an output is its token plus what is merged into it, and outputs stand by
   * descending class attention. `'paper'`: an output is the weighted average, and kept tokens stand in their original order. Default `'official-code'`.
   */
  readonly preset?: 'official-code' | 'paper';
}

/** What holds where an option is absent. */
export const prumergeDefaults: Required<PrumergeOptions> = {
  budget: 'outliers',
  layer: 'features',
  preset: 'official-code',
};

/**
 * PruMerge (arXiv 2403.15388; official code: `token_prune_merge_advanced` in clip_encoder.py of 42Shawn/LLaVA-PruMerge, 1ca8b2b): keeps the tokens
 * of outstanding class attention, and merges into each its 32 nearest by their keys, weighted with their class attention. One extra token, the last,
 * is the weighted sum of all that were not kept; where none stands out it is alone, with a warning.
 * Throws `SignalUnavailableError` when it plans for an encoder without a class token.
 * @throws InvalidArgumentError on an option out of its range
 */
export function createPrumerge(options: PrumergeOptions = {}): VisionReducer {
  return define('prumerge', options, { keepOutliers: keepTop, keepCount: keepTop });
}

/**
 * PruMerge+ (official code: `token_prune_merge_advanced_plus`): as {@link createPrumerge}, but keeps an even sample of the tokens too, about three for
 * each outlier. There is no extra token where every token was kept.
 * @throws InvalidArgumentError on an option out of its range
 */
export function createPrumergePlus(options: PrumergeOptions = {}): VisionReducer {
  return define('prumerge-plus', options, {
    keepOutliers: keepTopAndSample,
    keepCount: fillWithTopAndSample,
  });
}

/** How a method chooses from all tokens by descending class attention: for a number of outliers, and so that it keeps a given number. */
interface Choice {
  readonly keepOutliers: (ranking: Uint32Array, outliers: number) => number[];
  readonly keepCount: (ranking: Uint32Array, count: number) => number[];
}

function define(name: string, options: PrumergeOptions, { keepOutliers, keepCount }: Choice): VisionReducer {
  const { budget, layer, preset } = { ...prumergeDefaults, ...options };
  if (budget !== 'outliers') checkBudget(budget);
  checkChoice('layer', layer, ['features', 'last']);
  checkChoice('preset', preset, ['official-code', 'paper']);

  const choose = (attention: Float32Array, outputs?: number): number[] => {
    const ranking = topIndices(attention, attention.length);
    const kept =
      outputs === undefined
        ? keepOutliers(ranking, countOutliers(attention))
        : keepCount(ranking, outputs - 1); // and the extra token
    return preset === 'paper' ? kept.sort((a, b) => a - b) : kept;
  };
  return defineReducer<VisionReducer>({
    specificationVersion: 1,
    name,
    stage: 'vision',
    requires: [
      { signal: 'classAttention', layer },
      { signal: 'keys', layer },
    ],
    plan: async (tokens) => {
      const fixed = budget === 'outliers' ? undefined : resolveBudget(budget, tokens.length);
      if (fixed?.count === tokens.length) return identityPlan(tokens.length, { warnings: fixed.warnings });
      const attention = await readClassAttention(name, tokens, layer);
      const kept = choose(attention, fixed?.count);
      const neighbours = await nearestTokens(tokens, kept, layer);
      const outputs = mergeAround(kept, neighbours, attention);
      const warnings = fixed || kept.length > 0 ? [] : [nothingStandsOut(tokens.length)];
      return planAround(kept, preset === 'paper' ? outputs.map(average) : outputs, tokens.length, warnings);
    },
  });
}

function nothingStandsOut(length: number): string {
  return `no token's class attention stands out: all ${length} were merged into one`;
}

/** [N] */
async function readClassAttention(
  name: string,
  tokens: VisualTokens,
  layer: 'features' | 'last',
): Promise<Float32Array> {
  try {
    return await tokens.signal({ signal: 'classAttention', layer });
  } catch (error) {
    if (!SignalUnavailableError.isInstance(error)) throw error;
    const advice = `${name} needs the attention of a class token: for an encoder without one use fopru-rank, fopru-row or pooling.`;
    throw new SignalUnavailableError(error.signal, `${error.reason} ${advice}`);
  }
}

/** For each kept token its 32 nearest others, or all others where there are fewer. */
async function nearestTokens(
  tokens: VisualTokens,
  kept: readonly number[],
  layer: 'features' | 'last',
): Promise<Uint32Array[]> {
  if (kept.length === 0) return [];
  const nearest = await tokens.nearest(Uint32Array.from(kept), 32, layer); // [kept, width]
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
function average({ sources, weights }: WeightedSources): WeightedSources {
  const values = Array.from(weights);
  const total = values.reduce((sum, weight) => sum + weight, 0);
  return total > 0 ? { sources, weights: values.map((weight) => weight / total) } : { sources, weights };
}

/** Kept tokens take their own places, however much attention a neighbour holds; the extra token that of its heaviest source. */
function planAround(
  kept: readonly number[],
  outputs: readonly WeightedSources[],
  length: number,
  warnings: readonly string[],
): ReductionPlan {
  const plan = mergePlan(outputs, length, { warnings });
  return createPlan({ ...plan, anchors: [...kept, ...plan.anchors.subarray(kept.length)] });
}
