/** Runs reducers that act at one site one after the other: signals come in, plans go out. */
import type { ReductionPlan } from './plan.js';
import { planTokens, type TokenReducer } from './reducer.js';
import type { SignalRequest } from './signals/define-signal.js';
import { layerInTower, type Site } from './sites.js';
import type { TokenSource } from './token-source.js';
import { carryTokens } from './tokens-behind-plan.js';

/** How many layers the two towers of a model have: layers from the end count from there, and layers that scale scale by it. */
export interface TowerLayers {
  readonly vision: number;
  readonly language: number;
}

/** A request whose layer is counted from the start. */
export function requestInModel(request: SignalRequest, layers: TowerLayers): SignalRequest {
  const { layer, signal } = request;
  if (layer === undefined || typeof layer === 'string') return request;
  const tower = signal.of === 'language-layer' ? 'language' : 'vision';
  return { ...request, layer: layerInTower(layer, layers[tower], tower) };
}

/**
 * Plans of a chain, one a reducer in the same order; each reducer sees what those before it left.
 * @param source the tokens, whose signals are asked for by layers that are counted from the start
 * @param site where all of them act, its layer counted from the start
 * @throws what {@link planTokens} throws; InvalidArgumentError where a plan mixes the order of several spans
 * @example
 * const layers = { vision: 24, language: 32 };
 * const [rows, pooled] = await planChain([fopruRow(), pooling()], tokens, atFeatures, layers);
 */
export async function planChain(
  reducers: readonly TokenReducer[],
  source: TokenSource,
  site: Site,
  layers: TowerLayers,
): Promise<readonly ReductionPlan[]> {
  const plans: ReductionPlan[] = [];
  let left = source;
  for (const reducer of reducers) {
    const plan = await planTokens(reducer, inModel(left, layers), site);
    plans.push(plan);
    left = carryTokens(left, plan);
  }
  return plans;
}

/** The tokens, asked for signals of layers that may count from the end. */
function inModel(tokens: TokenSource, layers: TowerLayers): TokenSource {
  return {
    ...tokens,
    signal: (request) => tokens.signal(requestInModel(request, layers)),
    nearest: (rows, of, k) => tokens.nearest(requestInModel(rows, layers), of, k),
    similarity: (rows, to, measure) => tokens.similarity(requestInModel(rows, layers), to, measure),
  };
}
