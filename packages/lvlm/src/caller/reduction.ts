/** Runs the reducers on one image, in the caller's thread: signals come in, plans go out. */
import {
  carryTokens,
  createPlan,
  createVisualTokens,
  InvalidPlanError,
  isSelection,
  signalId,
  type EncoderLayer,
  type EncoderSignalRequest,
  type LanguageReducer,
  type ReductionPlan,
  type SignalRequest,
  type TokenReducer,
  type VisionReducer,
  type VisualTokens,
} from '@foveate/core';
import { UnsupportedReducerError } from '../platform/errors.js';
import type { EncoderRequest, FromWorker, KeysQuery, VisionSignalRequest } from '../engine/protocol.js';
import type { StageReport } from './types.js';

/** The reducers of a call by where they run. */
export interface Stages {
  /** One after the other, before the projector. */
  readonly vision: readonly VisionReducer[];
  /** Inside the language model. */
  readonly language: LanguageReducer | null;
}

/**
 * The reducers of a call by where they run.
 * @throws UnsupportedReducerError where one of the language stage is not the last
 */
export function stagesOf(reducers: readonly TokenReducer[]): Stages {
  const last = reducers.at(-1);
  const language = last?.stage === 'language' ? last : null;
  const before = language ? reducers.slice(0, -1) : reducers;
  const vision = before.filter((reducer) => reducer.stage === 'vision');
  const misplaced = before.find((reducer) => reducer.stage === 'language');
  if (misplaced) {
    throw new UnsupportedReducerError(
      `${misplaced.name} reduces tokens inside the language model, so no other reducer can come behind it; ${last?.name} does. Put one such reducer at most, and last.`,
    );
  }
  return { vision, language };
}

/**
 * The encoder that gives all signals of the reducers; null without reducers.
 * @param withMaps whether it puts out attention maps in place of their marginals
 * @throws UnsupportedReducerError where one asks for a signal of the language model
 */
export function encoderRequest(reducers: readonly VisionReducer[], withMaps: boolean): EncoderRequest {
  if (reducers.length === 0) return null;
  const requests = new Map<string, VisionSignalRequest>();
  const maps = new Set<EncoderLayer>();
  for (const { name, requires } of reducers) {
    for (const request of requires) {
      if (request.signal === 'promptAttention') {
        throw new UnsupportedReducerError(
          `${name} asks for ${signalId(request)}, which there is only after the projector. Reducers of the vision stage read signals of the encoder.`,
        );
      }
      if (withMaps && isMarginal(request)) maps.add(request.layer ?? 'features');
      else requests.set(signalId(request), request);
    }
  }
  return { signals: [...requests.values()], maps: [...maps] };
}

/**
 * Whether a signal is a marginal of an attention map. Class attention is none: it is computed of the queries and keys as one head, which no map has.
 */
export function isMarginal(request: SignalRequest): request is EncoderSignalRequest {
  return request.signal === 'attentionGiven' || request.signal === 'attentionReceived';
}

/** One image's visual tokens as the first reducer sees them; what it asks of the keys is asked of the worker. */
export function imageTokens(
  { length, grid, signals }: Extract<FromWorker, { type: 'encoded' }>,
  key: string,
  ask: (query: KeysQuery) => Promise<Float32Array | Uint32Array>,
): VisualTokens {
  const tokens = createVisualTokens({ length, ...(grid && { grid }), key, signals });
  return {
    ...tokens,
    signal: async (request) =>
      request.signal === 'keys'
        ? ((await ask({ ask: 'keys', request })) as Float32Array)
        : tokens.signal(request),
    nearest: async (of, k, layer = 'features') =>
      (await ask({ ask: 'nearest', request: { signal: 'keys', layer }, of, k })) as Uint32Array,
  };
}

/**
 * One reducer after the other; each sees what those before it left.
 * @param carry makes the tokens that a plan leaves
 * @throws what a reducer throws, and InvalidPlanError where it breaks the rules of a plan
 */
export async function planImage(
  reducers: readonly VisionReducer[],
  image: VisualTokens,
  carry: typeof carryTokens = carryTokens,
): Promise<ReductionPlan[]> {
  const plans: ReductionPlan[] = [];
  let tokens = image;
  for (const [index, reducer] of reducers.entries()) {
    const plan = checkPlan(await reducer.plan(tokens), reducer, tokens);
    plans.push(plan);
    if (index + 1 < reducers.length) tokens = carry(tokens, plan);
  }
  return plans;
}

/** What the plans of one image, one a reducer, did to it. */
export function visionReports(
  reducers: readonly VisionReducer[],
  plans: readonly ReductionPlan[],
): StageReport[] {
  return plans.map((plan, index) => ({
    stage: 'vision',
    reducer: reducers[index].name,
    inputTokens: plan.inputLength,
    outputTokens: plan.outputLength,
    kept: keptTokens(plans.slice(0, index + 1)),
    plan,
  }));
}

/** A reducer is anyone's code, and its plan decides what is read from memory. */
export function checkPlan(
  made: ReductionPlan,
  { name }: TokenReducer,
  { length }: VisualTokens,
): ReductionPlan {
  const plan = createPlan(made);
  if (plan.inputLength === length) return plan;
  throw new InvalidPlanError(`${name} made a plan for ${plan.inputLength} tokens; there are ${length}.`);
}

/** Which of the tokens are left after one plan or more, ascending; null where any is merged. */
export function keptTokens(plans: readonly ReductionPlan[]): number[] | null {
  if (!plans.every(isSelection)) return null;
  const [first, ...later] = plans;
  const kept = later.reduce(
    (before, { sources }) => sources.map((source) => before[source]),
    first.sources.slice(),
  );
  return Array.from(kept.sort());
}
