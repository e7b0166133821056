/** The language stage as the caller's thread sees it: what the worker is asked for, and what it did, told image by image. */
import {
  checkBudget,
  createVisualTokens,
  signalId,
  type LanguageReducer,
  type PromptSignalRequest,
  type ReductionPlan,
  type VisualTokens,
} from '@foveate/core';
import { UnsupportedReducerError } from '../platform/errors.js';
import type { FromWorker, LanguageRequest } from '../engine/protocol.js';
import { keptTokens } from './reduction.js';
import type { ImageReport, StageReport } from './types.js';

/** Above this share of the layers before the cut, what the later ones save is not much. */
const LATE = 0.5;

/**
 * The reducer as the worker carries it out: inside the decoder's graph where its choice is a top-k of what the layer before attends to, otherwise by its own
 * plan between two graphs.
 * @throws UnsupportedReducerError where it asks for what the layers before its own cannot give; InvalidArgumentError on its budget
 */
export function languageRequest({ name, layer, topK, requires }: LanguageReducer): LanguageRequest {
  if (!(Number.isSafeInteger(layer) && layer >= 1)) {
    throw new UnsupportedReducerError(`${name} reduces tokens before layer ${layer}: it must be 1 or more.`);
  }
  if (topK?.score.signal === 'promptAttention' && topK.score.layer === layer - 1) {
    checkBudget(topK.budget);
    return { route: 'graph', reducer: name, layer, rows: topK.score.rows, budget: topK.budget };
  }
  const signals = requires.map((request): PromptSignalRequest => {
    if (request.signal === 'promptAttention' && request.layer >= 0 && request.layer < layer) return request;
    throw new UnsupportedReducerError(
      `${name} reduces tokens before layer ${layer} and asks for ${signalId(request)}. There it can read promptAttention of the layers 0 to ${layer - 1}.`,
    );
  });
  return { route: 'split', reducer: name, layer, signals };
}

/** All visual tokens of the prompt, as a reducer of the language stage sees them; `keys` are those of the images. */
export function promptTokens(
  { spans, signals }: Extract<FromWorker, { type: 'prompted' }>,
  keys: readonly string[],
): VisualTokens {
  const length = spans.reduce((sum, span) => sum + span.length, 0);
  return createVisualTokens({ length, spans, signals, key: keys.join(' ') });
}

/** What the user should know of a stage before layer K of L, one sentence each. */
export function languageWarnings({ name, layer }: LanguageReducer, layers: number): string[] {
  if (layer / layers <= LATE) return [];
  return [
    `${name} reduces tokens before layer ${layer} of ${layers}: most layers still see all of them. A smaller layer saves more.`,
  ];
}

/** The reports of the images with what the language stage did to each of them. */
export function addLanguageStage(
  images: readonly ImageReport[],
  reducer: string,
  plan: ReductionPlan,
): ImageReport[] {
  let start = 0;
  return images.map((image) => {
    const own = planOfImage(plan, start, image.outputTokens);
    start += image.outputTokens;
    const plans = [...image.stages.map((stage) => stage.plan), own];
    const stage: StageReport = {
      stage: 'language',
      reducer,
      inputTokens: own.inputLength,
      outputTokens: own.outputLength,
      kept: keptTokens(plans),
      plan: own,
    };
    return { ...image, outputTokens: own.outputLength, stages: [...image.stages, stage] };
  });
}

/** The part of a plan about one image: the outputs that stand in its place, and their sources in it. Without outputs where the image lost all its tokens. */
function planOfImage(plan: ReductionPlan, start: number, length: number): ReductionPlan {
  const within = (token: number): boolean => token >= start && token < start + length;
  const offsets = [0];
  const sources: number[] = [];
  const weights: number[] = [];
  const anchors: number[] = [];
  for (let m = 0; m < plan.outputLength; m++) {
    if (!within(plan.anchors[m])) continue;
    anchors.push(plan.anchors[m] - start);
    for (let e = plan.offsets[m]; e < plan.offsets[m + 1]; e++) {
      if (!within(plan.sources[e])) continue;
      sources.push(plan.sources[e] - start);
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

/** T = (N * K + kept * (L - K)) / L: the visual tokens that a layer sees on average, N of them below layer K and `kept` from it on. */
export function equivalentTokens(
  layers: number,
  entering: number,
  language: { readonly layer: number; readonly kept: number } | null,
): number {
  if (!language) return entering;
  const { layer, kept } = language;
  return (entering * layer + kept * (layers - layer)) / layers;
}
