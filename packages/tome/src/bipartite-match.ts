/** Bipartite soft matching: which tokens are merged into which. */
import { mergePlan, type ReductionPlan, type WeightedSources } from '@foveate/core';

/** Tokens by turns. */
export interface Halves {
  /** [a] those that may be merged. */
  readonly firsts: Uint32Array;
  /** [b] those that they may be merged into. */
  readonly seconds: Uint32Array;
}

/** The tokens 0, 2, 4 ... and 1, 3, 5 ..., prefix tokens before them counted. */
export function halvesOf(length: number, prefixTokens: number): Halves {
  const tokens = Uint32Array.from({ length }, (_, token) => token);
  const isFirst = (token: number): boolean => (prefixTokens + token) % 2 === 0;
  return { firsts: tokens.filter(isFirst), seconds: tokens.filter((token) => !isFirst(token)) };
}

/** What {@link bipartiteMerge} reads. */
export interface Matching extends Halves {
  /** How alike each first token is to every token. [a, N] */
  readonly cosines: Float32Array;
  /** [N] the patches that each token stands for. */
  readonly sizes: ArrayLike<number>;
  /** How many to merge, at most a. */
  readonly count: number;
  /** Of the first tokens that are left: by their place, or the most similar first. */
  readonly order: 'place' | 'similarity';
}

/**
 * The plan that merges `count` first tokens, those most similar to a second one, each into that one: the
 * average weighted by sizes. The first ones that are left come before the second ones. Ties: the lower index,
 * of the merged and of what they are merged into.
 */
export function bipartiteMerge({ firsts, seconds, cosines, sizes, count, order }: Matching): ReductionPlan {
  const length = sizes.length;
  const best = Array.from(firsts, (token, i) => {
    const into = seconds.reduce((a, b) => (cosines[i * length + b] > cosines[i * length + a] ? b : a));
    return { token, into, cosine: cosines[i * length + into] };
  });
  const ranked = best.toSorted((a, b) => b.cosine - a.cosine || a.token - b.token);
  const left = ranked.slice(count);
  if (order === 'place') left.sort((a, b) => a.token - b.token);
  const groups = new Map(Array.from(seconds, (second) => [second, [second]]));
  for (const { token, into } of ranked.slice(0, count)) groups.get(into)?.push(token);
  const sources = [...left.map(({ token }) => [token]), ...groups.values()];
  return mergePlan(
    sources.map((group) => weightedBySize(group, sizes)),
    length,
  );
}

function weightedBySize(sources: readonly number[], sizes: ArrayLike<number>): WeightedSources {
  const total = sources.reduce((sum, source) => sum + sizes[source], 0);
  return { sources, weights: sources.map((source) => sizes[source] / total) };
}
