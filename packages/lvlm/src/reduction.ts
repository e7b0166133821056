/** Runs the reducers on one image, in the caller's thread: signals come in, plans go out. */
import {
  carryTokens,
  createPlan,
  createVisualTokens,
  InvalidPlanError,
  isSelection,
  signalId,
  type ReductionPlan,
  type TokenReducer,
  type VisionReducer,
  type VisualTokens,
} from '@foveate/core';
import { UnsupportedReducerError } from './errors.js';
import type { EncoderRequest, FromWorker, KeysQuery, VisionSignalRequest } from './protocol.js';
import type { StageReport } from './types.js';

/**
 * The reducers of a call, all of the vision stage.
 * @throws UnsupportedReducerError
 */
export function visionReducers(reducers: readonly TokenReducer[]): VisionReducer[] {
  return reducers.map((reducer) => {
    if (reducer.stage === 'vision') return reducer;
    throw new UnsupportedReducerError(
      `${reducer.name} reduces tokens inside the language model, which this version of the runner does not support. Use reducers of the vision stage.`,
    );
  });
}

/**
 * The encoder that gives all signals of the reducers; null without reducers.
 * @throws UnsupportedReducerError where one asks for a signal of the language model
 */
export function encoderRequest(reducers: readonly VisionReducer[]): EncoderRequest {
  if (reducers.length === 0) return null;
  const requests = new Map<string, VisionSignalRequest>();
  for (const { name, requires } of reducers) {
    for (const request of requires) {
      if (request.signal === 'promptAttention') {
        throw new UnsupportedReducerError(
          `${name} asks for ${signalId(request)}, which there is only after the projector. Reducers of the vision stage read signals of the encoder.`,
        );
      }
      requests.set(signalId(request), request);
    }
  }
  return [...requests.values()];
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
 * @throws what a reducer throws, and InvalidPlanError where it breaks the rules of a plan
 */
export async function reduceImage(
  reducers: readonly VisionReducer[],
  image: VisualTokens,
): Promise<StageReport[]> {
  const stages: StageReport[] = [];
  let tokens = image;
  let origins: Uint32Array | null = Uint32Array.from({ length: image.length }, (_, index) => index); // of each token left; null once any is merged
  for (const [index, reducer] of reducers.entries()) {
    const plan = checkPlan(await reducer.plan(tokens), reducer, tokens);
    origins = origins && isSelection(plan) ? select(origins, plan) : null;
    stages.push({
      reducer: reducer.name,
      inputTokens: plan.inputLength,
      outputTokens: plan.outputLength,
      kept: origins && [...origins].sort((a, b) => a - b),
      plan,
    });
    if (index + 1 < reducers.length) tokens = carryTokens(tokens, plan);
  }
  return stages;
}

/** A reducer is anyone's code, and its plan decides what is read from memory. */
function checkPlan(made: ReductionPlan, { name }: VisionReducer, { length }: VisualTokens): ReductionPlan {
  const plan = createPlan(made);
  if (plan.inputLength === length) return plan;
  throw new InvalidPlanError(`${name} made a plan for ${plan.inputLength} tokens; there are ${length}.`);
}

function select(origins: Uint32Array, { sources }: ReductionPlan): Uint32Array {
  return sources.map((source) => origins[source]);
}
