/** What one stage does: which tokens it keeps, recycles and merges. */
import {
  createPlan,
  mergePlan,
  topIndicesAscending,
  type ReductionPlan,
  type Similarity,
  type Span,
  type WeightedSources,
} from '@foveate/core';
import { densityPeaks, type Cluster } from './density-peaks.js';
import { clusterCount, recycledCount } from './recycled.js';

/** Of the count by which a merged token is divided, as the official code has it. */
const epsilon = 1e-6;

/** Indices of tokens. */
export interface Split {
  /** Ascending. */
  readonly kept: Uint32Array;
  /** Those of the highest scores among the pruned, ascending. */
  readonly recycled: Uint32Array;
  /** Into how many clusters they are merged. */
  readonly clusters: number;
}

/**
 * The `count` tokens of the highest scores, and the best of the others, which are recycled.
 * @param count in [0, N)
 */
export function splitTokens(scores: Float64Array, count: number): Split {
  const kept = count === 0 ? new Uint32Array(0) : topIndicesAscending(scores, count);
  const isKept = new Set(kept);
  const pruned = Uint32Array.from(scores.keys()).filter((token) => !isKept.has(token));
  const best = topIndicesAscending(
    Array.from(pruned, (token) => scores[token]),
    recycledCount(pruned.length),
  );
  return { kept, recycled: best.map((place) => pruned[place]), clusters: clusterCount(pruned.length) };
}

/**
 * Groups the recycled tokens by their hidden states.
 * @param states answers dot products of hidden states
 * @param width their channels
 * @param noise [recycled] on the densities
 * @returns clusters of tokens
 */
export async function clusterTokens(
  states: Similarity,
  width: number,
  { recycled, clusters }: Split,
  noise: ArrayLike<number>,
): Promise<Cluster[]> {
  const dots = await states.dots(recycled); // [recycled, N]
  const distances = distancesOf(dots, recycled, width);
  return densityPeaks(distances, clusters, noise).map(({ centre, members }) => ({
    centre: recycled[centre],
    members: members.map((member) => recycled[member]),
  }));
}

/** Euclidean, over the square root of the width; symmetric, whoever multiplied. [recycled, recycled] */
function distancesOf(dots: Float32Array, recycled: Uint32Array, width: number): Float64Array[] {
  const length = dots.length / recycled.length; // N
  const dot = (row: number, column: number): number => dots[row * length + recycled[column]];
  const distances = Array.from(recycled, () => new Float64Array(recycled.length));
  for (let i = 0; i < recycled.length; i++) {
    for (let j = 0; j < i; j++) {
      const squared = Math.max(0, dot(i, i) + dot(j, j) - 2 * dot(i, j));
      distances[i][j] = distances[j][i] = Math.sqrt(squared / width);
    }
  }
  return distances;
}

/**
 * For each image its kept tokens in their order, then the merged ones whose centres are of it, in the order
 * of the clusters. A merged token stands where its centre does.
 */
export function stagePlan(
  kept: Uint32Array,
  clusters: readonly Cluster[],
  { length, spans, warnings }: { length: number; spans: readonly Span[]; warnings: readonly string[] },
): ReductionPlan {
  const outputs = [
    ...Array.from(kept, (token) => ({ anchor: token, ...alone(token) })),
    ...clusters.map(({ centre, members }) => ({ anchor: centre, ...mean(members) })),
  ];
  const ordered = spans.flatMap(({ start, length: count }) =>
    outputs.filter(({ anchor }) => anchor >= start && anchor < start + count),
  );
  const plan = mergePlan(ordered, length, { warnings });
  return createPlan({ ...plan, anchors: ordered.map(({ anchor }) => anchor) });
}

function alone(token: number): WeightedSources {
  return { sources: [token], weights: [1] };
}

function mean(tokens: readonly number[]): WeightedSources {
  return { sources: tokens, weights: tokens.map(() => 1 / (tokens.length + epsilon)) };
}
