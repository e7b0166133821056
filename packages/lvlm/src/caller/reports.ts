/** What a call did to its images, told image by image and step by step. Runs in the caller's thread. */
import { isSelection, type ReductionPlan } from '@foveate/core';
import type { CropOutcome, Outcome } from '../engine/api.js';
import { partialPlan } from '../engine/partial-plan.js';
import type { ChainSite, EveryLayerReducers, ReductionChain, SiteReducers } from './reduction-chain.js';
import type { CropReport, ImageReport, StepReport } from './options-and-results.js';

/** A reducer's step, with what it did to one crop. */
interface Step {
  readonly site: ChainSite;
  readonly reducer: string;
  readonly plan: ReductionPlan;
}

/**
 * The reports of a call's images.
 * @param planned [images][crops] the plans on the features, in the order of the chain; nothing where none
 * acts there
 */
export function imageReports(
  { encoder, merging, features, language }: ReductionChain,
  { crops, origins, languagePlans }: Outcome,
  planned: readonly (readonly (readonly ReductionPlan[])[])[],
): ImageReport[] {
  const before = stepsOf([...encoder, everyLayerAsOne(merging), features]);
  const steps = crops.map((image, i) =>
    image.map(({ encoderPlans }, c) =>
      [...encoderPlans, ...(planned[i][c] ?? [])].map((plan, step): Step => ({ ...before[step], plan })),
    ),
  );
  addLanguageSteps(steps, language, origins, languagePlans);
  return crops.map((image, i): ImageReport => {
    const reports = image.map((crop, c) => cropReport(crop, steps[i][c]));
    return {
      crops: reports,
      inputTokens: sum(reports.map(({ inputTokens }) => inputTokens)),
      outputTokens: sum(reports.map(({ outputTokens }) => outputTokens)),
    };
  });
}

/** What acts inside every layer makes one plan together. */
function everyLayerAsOne({ site, reducers }: EveryLayerReducers): EveryLayerReducers {
  const name = reducers.map((reducer) => reducer.name).join('+');
  return { site, reducers: reducers.slice(0, 1).map((first) => ({ ...first, name })) };
}

/** What acts where, one entry a reducer and site, in the order of the data. */
function stepsOf(sites: readonly (SiteReducers | EveryLayerReducers)[]): Omit<Step, 'plan'>[] {
  return sites.flatMap(({ site, reducers }) => reducers.map(({ name }) => ({ site, reducer: name })));
}

/** A visual token inside the language model. */
interface PromptToken {
  /** Of its crop. */
  readonly steps: Step[];
  /** Its number among the crop's tokens that are left. */
  readonly place: number;
  readonly image: number;
  /** Where it stands among all visual tokens that are left. */
  readonly stands: number;
}

/**
 * Adds to each crop's steps what happened to its tokens inside the language model, where those of all images
 * are reduced together.
 */
function addLanguageSteps(
  steps: readonly Step[][][],
  sites: ReductionChain['language'],
  origins: Uint32Array,
  plans: readonly ReductionPlan[],
): void {
  let tokens = Array.from({ length: origins.length / 3 }, (_, v): PromptToken => {
    const [image, crop, place] = origins.subarray(3 * v);
    return { steps: steps[image][crop], place, image, stands: v };
  });
  const made = plans.values();
  for (const one of sites) {
    for (const [step, plan] of zip(stepsOf([one]), made)) tokens = addStep(steps.flat(), step, plan, tokens);
    const isRenumbered = one.reducers.some(({ positions }) => positions === 'renumbered');
    tokens = tokens // each layer reads its tokens where they stand
      .toSorted((a, b) => (isRenumbered ? a.image - b.image : a.stands - b.stands))
      .map((token, stands) => ({ ...token, stands }));
  }
}

/** Adds one plan to the steps of every crop. @returns the tokens that it leaves */
function addStep(
  crops: readonly Step[][],
  step: Omit<Step, 'plan'>,
  plan: ReductionPlan,
  tokens: readonly PromptToken[],
): PromptToken[] {
  for (const own of crops) {
    const length = tokens.filter((token) => token.steps === own).length;
    const placeOf = (v: number): number | undefined =>
      tokens[v].steps === own ? tokens[v].place : undefined;
    own.push({ ...step, plan: partialPlan(plan, length, placeOf) });
  }
  const counts = new Map<Step[], number>();
  return Array.from(plan.anchors, (anchor) => {
    const { steps: own } = tokens[anchor];
    const place = counts.get(own) ?? 0;
    counts.set(own, place + 1);
    return { ...tokens[anchor], place };
  });
}

/** Each of `first` with the next of `second`, as long as there is one. */
function* zip<A, B>(first: readonly A[], second: Iterator<B>): Generator<[A, B]> {
  for (const one of first) {
    const next = second.next();
    if (next.done) return;
    yield [one, next.value];
  }
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
  let plans = 0;
  let left = visual;
  let seen = 0;
  let below = 0;
  for (const { site, reducers } of language) {
    seen += left * (site.layer - below);
    below = site.layer;
    plans += reducers.length;
    left = languagePlans.at(plans - 1)?.outputLength ?? left;
  }
  return (seen + left * (layers.language - below)) / layers.language;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
