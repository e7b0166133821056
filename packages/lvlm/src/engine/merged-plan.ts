/** Plans of tokens that stand for several patches each, and how many they stand for. */
import { isIdentity, isSelection, mergePlan, type ReductionPlan } from '@foveate/core';

/**
 * The plan from patches to the tokens that stand for them, each the mean of its patches.
 * @param owners [N] for each patch the token that stands for it; each of the numbers from 0 on has one
 */
export function mergedPlan(owners: readonly number[], warnings: readonly string[] = []): ReductionPlan {
  const groups: number[][] = [];
  for (const [patch, owner] of owners.entries()) (groups[owner] ??= []).push(patch);
  const outputs = groups.map((sources) => ({ sources, weights: sources.map(() => 1 / sources.length) }));
  return mergePlan(outputs, owners.length, { warnings });
}

/**
 * The plan from the tokens before the last merge to those behind it, by the patches that they stand for: the
 * mean weighted by how many these are; null where nothing was merged.
 * @param before [N] for each patch the token that stood for it
 * @param behind [N] and the one that stands for it then
 */
export function lastMerge(before: readonly number[], behind: readonly number[]): ReductionPlan | null {
  const groups: Map<number, number>[] = [];
  for (const [patch, owner] of behind.entries()) {
    const group = (groups[owner] ??= new Map<number, number>());
    group.set(before[patch], (group.get(before[patch]) ?? 0) + 1);
  }
  const outputs = groups.map((group) => {
    const sizes = [...group.values()];
    const total = sizes.reduce((sum, size) => sum + size, 0);
    return { sources: [...group.keys()], weights: sizes.map((size) => size / total) };
  });
  const plan = mergePlan(outputs, new Set(before).size);
  return isIdentity(plan) ? null : plan;
}

/** How far a product of float32 weights may be from what it stands for. */
const ROUNDING = 1e-5;

/**
 * The same plan where its outputs are the means of their patches but for rounding: averages of averages,
 * weighted by how many patches they stand for, in one step.
 */
export function exactMeans(plan: ReductionPlan): ReductionPlan {
  const { inputLength, offsets, sources, weights, warnings } = plan;
  if (!weights) return plan;
  const groups = Array.from({ length: plan.outputLength }, (_, m) => [
    ...sources.subarray(offsets[m], offsets[m + 1]),
  ]);
  const isMean = groups.every((group, m) =>
    group.every((_, e) => Math.abs(weights[offsets[m] + e] * group.length - 1) < ROUNDING),
  );
  if (!isMean) return plan;
  const outputs = groups.map((group) => ({ sources: group, weights: group.map(() => 1 / group.length) }));
  return mergePlan(outputs, inputLength, { warnings });
}

/** [M] how many patches the tokens behind plans stand for; null where each is one. */
export function sizesBehind(plans: readonly ReductionPlan[]): Float32Array | null {
  if (plans.every(isSelection)) return null;
  return plans.reduce<Float32Array>(
    (sizes, { outputLength, offsets, sources }) =>
      Float32Array.from({ length: outputLength }, (_, m) =>
        sources.subarray(offsets[m], offsets[m + 1]).reduce((sum, source) => sum + sizes[source], 0),
      ),
    new Float32Array(plans[0].inputLength).fill(1),
  );
}
