/** The part of a plan that is about some of its tokens. */
import type { ReductionPlan } from '@foveate/core';

/**
 * Of a plan the outputs that stand where one of the tokens stood, and their sources among the tokens; without
 * outputs where all were lost.
 * @param length how many tokens there are
 * @param placeOf the number of an input among the tokens; undefined where it is none
 */
export function partialPlan(
  plan: ReductionPlan,
  length: number,
  placeOf: (input: number) => number | undefined,
): ReductionPlan {
  const offsets = [0];
  const sources: number[] = [];
  const weights: number[] = [];
  const anchors: number[] = [];
  for (let m = 0; m < plan.outputLength; m++) {
    const anchor = placeOf(plan.anchors[m]);
    if (anchor === undefined) continue;
    anchors.push(anchor);
    for (let e = plan.offsets[m]; e < plan.offsets[m + 1]; e++) {
      const source = placeOf(plan.sources[e]);
      if (source === undefined) continue;
      sources.push(source);
      if (plan.weights) weights.push(plan.weights[e]);
    }
    offsets.push(sources.length);
  }
  return {
    inputLength: length,
    outputLength: anchors.length,
    offsets: Uint32Array.from(offsets),
    sources: Uint32Array.from(sources),
    ...(plan.weights && { weights: Float32Array.from(weights) }),
    combine: plan.combine,
    anchors: Uint32Array.from(anchors),
    warnings: plan.warnings,
  };
}
