/**
 * Runs the reducers of one site one after the other: signals come in, plans go out. Runs in the caller's
 * thread.
 */
import { carryTokens, planTokens, type ReductionPlan, type TokenSource } from '@foveate/core';
import { requestInModel, type SiteReducers, type TowerLayers } from './reduction-chain.js';

/**
 * Plans, one a reducer; each reducer sees what those before it left.
 * @throws what a reducer throws, and InvalidPlanError where it breaks the rules of a plan
 */
export async function planSite(
  { site, reducers }: SiteReducers,
  source: TokenSource,
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
  };
}
