/** Reduces one image on a tensor backend in the caller's thread: attention maps are reduced, nearest keys found and plans applied there. */
import {
  carryTokens,
  createVisualTokens,
  type AttentionMarginals,
  type ReductionPlan,
  type TensorBackend,
  type VisionReducer,
  type VisualTokens,
} from '@foveate/core';
import { WorkerError } from '../platform/errors.js';
import type { AttentionMap, FromWorker, Rows } from '../engine/protocol.js';
import { isMarginal, planImage, visionReports } from './reduction.js';
import type { StageReport } from './types.js';

/** What became of an image. */
interface BackendReduction {
  readonly stages: StageReport[];
  readonly features: Rows;
}

/**
 * Reduces an image whose features were handed out. No tensor is left on the backend, on errors either.
 * @throws what a reducer or the backend throws; InvalidPlanError where a reducer breaks the rules of a plan
 */
export async function reduceOnBackend<Tensor>(
  backend: TensorBackend<Tensor>,
  reducers: readonly VisionReducer[],
  message: Extract<FromWorker, { type: 'encoded' }>,
  key: string,
): Promise<BackendReduction> {
  const { handedOut } = message;
  if (!handedOut) throw new WorkerError('The worker kept the features that a backend was to reduce.');
  const plans = await planImage(
    reducers,
    backendTokens(backend, message, handedOut.maps, key),
    (...carried) => withNearest(backend, carryTokens(...carried)),
  );
  return {
    stages: visionReports(reducers, plans),
    features: await applyPlans(backend, handedOut.features, plans),
  };
}

/** The image's tokens: marginals of its maps and nearest keys come from the backend, each map read once, and the other signals are at hand. */
function backendTokens<Tensor>(
  backend: TensorBackend<Tensor>,
  { length, grid, signals }: Extract<FromWorker, { type: 'encoded' }>,
  maps: readonly AttentionMap[],
  key: string,
): VisualTokens {
  const tokens = createVisualTokens({ length, ...(grid && { grid }), key, signals });
  const read = new Map<AttentionMap, Promise<AttentionMarginals>>();
  const marginalsOf = (map: AttentionMap): Promise<AttentionMarginals> => {
    const { data, heads, side } = map;
    const marginals =
      read.get(map) ??
      withTensor(backend, data, [heads, side, side], (attention) =>
        backend.marginals(attention, { classToken: side > length }),
      );
    read.set(map, marginals);
    return marginals;
  };
  return withNearest(backend, {
    ...tokens,
    signal: async (request) => {
      const map = isMarginal(request) && maps.find(({ layer }) => layer === (request.layer ?? 'features'));
      if (!map) return tokens.signal(request);
      const { given, received } = await marginalsOf(map);
      return request.signal === 'attentionGiven' ? given : received;
    },
  });
}

/** The tokens, whose nearest keys the backend finds. */
function withNearest<Tensor>(backend: TensorBackend<Tensor>, tokens: VisualTokens): VisualTokens {
  return {
    ...tokens,
    nearest: async (of, k, layer = 'features') => {
      const values = await tokens.signal({ signal: 'keys', layer }); // [N, D]
      return withTensor(backend, values, [tokens.length, values.length / tokens.length], (keys) =>
        backend.nearestKeys(keys, of, k),
      );
    },
  };
}

/** Features [N, D] by one plan after the other, without coming back between them. */
async function applyPlans<Tensor>(
  backend: TensorBackend<Tensor>,
  { data, length }: Rows,
  plans: readonly ReductionPlan[],
): Promise<Rows> {
  let features = backend.upload(data, [length, data.length / length]);
  try {
    for (const plan of plans) {
      const reduced = await backend.applyPlan(features, plan);
      backend.dispose(features);
      features = reduced;
    }
    return { data: await backend.download(features), length: plans.at(-1)?.outputLength ?? length };
  } finally {
    backend.dispose(features);
  }
}

/** Works with a tensor that lives for that long. */
async function withTensor<Tensor, Result>(
  backend: TensorBackend<Tensor>,
  data: Float32Array,
  shape: readonly number[],
  work: (tensor: Tensor) => Promise<Result>,
): Promise<Result> {
  const tensor = backend.upload(data, shape);
  try {
    return await work(tensor);
  } finally {
    backend.dispose(tensor);
  }
}
