/**
 * The contextual tokens of VisionZip: what becomes of the tokens that are not dominant. Source: the official
 * code, dvlab-research/VisionZip, 3151f6d.
 */
import type { Similarity, WeightedSources } from '@foveate/core';

/**
 * The targets: `count` of the rest in steps of floor(rest / count) from its first. What the steps leave at
 * the end of the rest holds none.
 * @param rest tokens, ascending, no fewer than `count`
 */
export function spreadTargets(rest: readonly number[], count: number): number[] {
  const step = Math.max(1, Math.floor(rest.length / count));
  return Array.from({ length: count }, (_, place) => rest[place * step]);
}

/**
 * Each target plus the mean of the rest that is nearer to it, by cosine, than to any other target; ties to the
 * lower target. The target is no part of that mean: an output is about twice as long as a token.
 */
export async function mergeIntoTargets(
  targets: readonly number[],
  rest: readonly number[],
  similar: Similarity,
): Promise<WeightedSources[]> {
  if (targets.length === 0) return [];
  const cosines = await similar.cosines(Uint32Array.from(targets)); // [targets, N]
  const length = cosines.length / targets.length;
  const groups = targets.map((): number[] => []);
  const isTarget = new Set(targets);
  for (const token of rest) {
    if (isTarget.has(token)) continue;
    let nearest = 0;
    for (let target = 1; target < targets.length; target++) {
      if (cosines[target * length + token] > cosines[nearest * length + token]) nearest = target;
    }
    groups[nearest].push(token);
  }
  return targets.map((target, m) => ({
    sources: [target, ...groups[m]],
    weights: [1, ...groups[m].map(() => 1 / groups[m].length)],
  }));
}
