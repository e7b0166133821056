/** What a call did to its images, told image by image and step by step. Runs in the caller's thread. */
import { isSelection, type ReductionPlan, type Site } from '@foveate/core';
import type { CropOutcome, Outcome } from '../engine/api.js';
import type { ReductionChain, SiteReducers } from './reduction-chain.js';
import type { CropReport, ImageReport, StepReport } from './types.js';

/** A reducer's step, with what it did to one crop. */
interface Step {
  readonly site: Site;
  readonly reducer: string;
  readonly plan: ReductionPlan;
}

/**
 * The reports of a call's images.
 * @param planned [images][crops] the plans on the features, in the order of the chain; nothing where none acts there
 */
export function imageReports(
  { features, language }: ReductionChain,
  { crops, origins, languagePlans }: Outcome,
  planned: readonly (readonly (readonly ReductionPlan[])[])[],
): ImageReport[] {
  const steps = crops.map((image, i) =>
    image.map((_, c) =>
      (planned[i][c] ?? []).map((plan, r): Step => {
        return { site: features.site, reducer: features.reducers[r].name, plan };
      }),
    ),
  );
  if (language) addLanguageSteps(steps, language, origins, languagePlans);
  return crops.map((image, i): ImageReport => {
    const reports = image.map((crop, c) => cropReport(crop, steps[i][c]));
    return {
      crops: reports,
      inputTokens: sum(reports.map(({ inputTokens }) => inputTokens)),
      outputTokens: sum(reports.map(({ outputTokens }) => outputTokens)),
    };
  });
}

/** Adds to each crop's steps what happened to its tokens inside the language model, where those of all images are reduced together. */
function addLanguageSteps(
  steps: readonly Step[][][],
  { site, reducers }: SiteReducers,
  origins: Uint32Array,
  plans: readonly ReductionPlan[],
): void {
  let tokens = Array.from({ length: origins.length / 3 }, (_, v) => ({
    steps: steps[origins[3 * v]][origins[3 * v + 1]],
    place: origins[3 * v + 2],
  }));
  for (const [r, plan] of plans.entries()) {
    const owners = tokens;
    for (const own of steps.flat()) {
      own.push({ site, reducer: reducers[r].name, plan: planOfCrop(plan, owners, own) });
    }
    const counts = new Map<Step[], number>();
    tokens = Array.from(plan.anchors, (anchor) => {
      const { steps: own } = owners[anchor];
      const place = counts.get(own) ?? 0;
      counts.set(own, place + 1);
      return { steps: own, place };
    });
  }
}

/** The part of a plan about one crop: the outputs that stand in its place, and their sources in it. Without outputs where the crop lost all its tokens. */
function planOfCrop(
  plan: ReductionPlan,
  tokens: readonly { readonly steps: readonly Step[]; readonly place: number }[],
  own: readonly Step[],
): ReductionPlan {
  const isOwn = (token: number): boolean => tokens[token].steps === own;
  const offsets = [0];
  const sources: number[] = [];
  const weights: number[] = [];
  const anchors: number[] = [];
  for (let m = 0; m < plan.outputLength; m++) {
    if (!isOwn(plan.anchors[m])) continue;
    anchors.push(tokens[plan.anchors[m]].place);
    for (let e = plan.offsets[m]; e < plan.offsets[m + 1]; e++) {
      if (!isOwn(plan.sources[e])) continue;
      sources.push(tokens[plan.sources[e]].place);
      if (plan.weights) weights.push(plan.weights[e]);
    }
    offsets.push(sources.length);
  }
  return {
    inputLength: tokens.filter(({ steps }) => steps === own).length,
    outputLength: anchors.length,
    offsets: Uint32Array.from(offsets),
    sources: Uint32Array.from(sources),
    ...(plan.weights && { weights: Float32Array.from(weights) }),
    combine: plan.combine,
    anchors: Uint32Array.from(anchors),
    warnings: plan.warnings,
  };
}

function cropReport({ grid, region, inputTokens }: CropOutcome, steps: readonly Step[]): CropReport {
  const plans = steps.map(({ plan }) => plan);
  return {
    grid,
    region: grid && region,
    inputTokens,
    outputTokens: plans.at(-1)?.outputLength ?? inputTokens,
    steps: steps.map(({ site, reducer, plan }, index): StepReport => ({
      site,
      reducer,
      inputTokens: plan.inputLength,
      outputTokens: plan.outputLength,
      kept: keptTokens(plans.slice(0, index + 1)),
      plan,
    })),
  };
}

/** Which of the tokens are left after one plan or more, ascending; null where any is merged. */
function keptTokens(plans: readonly ReductionPlan[]): number[] | null {
  if (!plans.every(isSelection)) return null;
  const [first, ...later] = plans;
  const kept = later.reduce(
    (before, { sources }) => sources.map((source) => before[source]),
    first.sources.slice(),
  );
  return Array.from(kept.sort());
}

/** The visual tokens that a layer of the language model sees on average, with fewer from its site on. */
export function equivalentTokens(
  { language, layers }: ReductionChain,
  { cached: { visual }, languagePlans }: Outcome,
): number {
  const left = languagePlans.at(-1)?.outputLength ?? visual;
  const below = language?.site.layer ?? 0;
  return (visual * below + left * (layers.language - below)) / layers.language;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
