/**
 * Reduces a crop on a tensor backend in the caller's thread: attention maps are reduced, nearest rows found
 * and plans applied there.
 */
import {
  attentionMap,
  createBackendTokens,
  mapGivesExactly,
  planChain,
  requestInModel,
  requestsOf,
  signalId,
  type AttentionTensor,
  type ReductionPlan,
  type SignalRequest,
  type TensorBackend,
  type TensorSignal,
  type TokenSource,
  type TowerLayers,
} from '@foveate/core';
import type { CropTokens, Features, ReducedCrop } from '../engine/api.js';
import { withoutPadding } from './crop-tokens.js';
import type { SiteReducers } from './reduction-chain.js';

/** A crop whose features were handed out. */
interface HandedOutCrop extends Pick<CropTokens, 'left' | 'grid'> {
  /** The encoder's, with `attentionMap` of the layers whose maps the backend reduces. */
  readonly tokens: TokenSource;
  /** Of those left. */
  readonly features: Features;
  /** Whether row and column 0 of the maps are the class token's. */
  readonly classToken: boolean;
}

/**
 * Reduces a crop on its features. No tensor is left on the backend, on errors either.
 * @throws what a reducer or the backend throws; InvalidPlanError where a reducer breaks the rules of a plan
 */
export async function reduceOnBackend<Tensor>(
  backend: TensorBackend<Tensor>,
  { site, reducers }: SiteReducers,
  crop: HandedOutCrop,
  layers: TowerLayers,
): Promise<ReducedCrop> {
  const held: Tensor[] = [];
  const hold = (data: Float32Array, shape: readonly number[]): Tensor => {
    const tensor = backend.upload(data, shape);
    held.push(tensor);
    return tensor;
  };
  const requests = reducers.flatMap(({ requires }) =>
    requestsOf(requires, site).map((request) => requestInModel(request, layers)),
  );
  try {
    const tokens = withoutPadding(await backendTokens(backend, crop, requests, hold), crop);
    const plans = await planChain(reducers, tokens, site, layers);
    return { plans, features: await applyPlans(backend, crop.features, plans) };
  } finally {
    for (const tensor of held) backend.dispose(tensor);
  }
}

/** The tokens, with maps and rows on the backend and what is a vector each at hand. */
async function backendTokens<Tensor>(
  backend: TensorBackend<Tensor>,
  { tokens, classToken }: HandedOutCrop,
  requests: readonly SignalRequest[],
  hold: (data: Float32Array, shape: readonly number[]) => Tensor,
): Promise<TokenSource> {
  const { length } = tokens;
  const side = length + (classToken ? 1 : 0);
  const attention = new Map<SignalRequest['layer'], AttentionTensor<Tensor>>();
  const rows = new Map<string, TensorSignal<Tensor>>();
  for (const request of requests) {
    const { layer = 'features', signal } = request;
    if (mapGivesExactly(request)) {
      if (attention.has(layer)) continue;
      const values = await tokens.signal({ ...attentionMap(), layer }); // [H, side, side]
      attention.set(layer, {
        layer,
        classToken,
        values: hold(values, [values.length / side ** 2, side, side]),
      });
    } else if (signal.shape.join() === 'N,D') {
      const values = await tokens.signal(request);
      rows.set(signalId(request), { ...request, values: hold(values, [length, values.length / length]) });
    }
  }
  const onBackend = createBackendTokens(backend, {
    ...tokens,
    attention: [...attention.values()],
    signals: [...rows.values()],
  });
  const isHeld = (request: SignalRequest): boolean =>
    rows.has(signalId(request)) || (attention.has(request.layer ?? 'features') && mapGivesExactly(request));
  return {
    ...onBackend,
    signal: (request) => (isHeld(request) ? onBackend : tokens).signal(request),
  };
}

/** Features [N, D] by one plan after the other, without coming back between them. */
async function applyPlans<Tensor>(
  backend: TensorBackend<Tensor>,
  { data, length }: Features,
  plans: readonly ReductionPlan[],
): Promise<Features> {
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
