/** Runs the reducers of one site one after the other: signals come in, plans go out. Runs in the caller's thread. */
import { carryTokens, planTokens, type ReductionPlan, type TokenSource } from '@foveate/core';
import { requestInModel, type SiteReducers, type TowerLayers } from './reduction-chain.js';

/** Plans, one a reducer, and the tokens that they leave. */
export interface PlannedSite {
  readonly plans: readonly ReductionPlan[];
  readonly left: TokenSource;
}

/**
 * One reducer after the other; each sees what those before it left.
 * @param carry makes the tokens that a plan leaves
 * @throws what a reducer throws, and InvalidPlanError where it breaks the rules of a plan
 */
export async function planSite(
  { site, reducers }: SiteReducers,
  source: TokenSource,
  layers: TowerLayers,
  carry: typeof carryTokens = carryTokens,
): Promise<PlannedSite> {
  const plans: ReductionPlan[] = [];
  let left = source;
  for (const reducer of reducers) {
    const plan = await planTokens(reducer, inModel(left, layers), site);
    plans.push(plan);
    left = carry(left, plan);
  }
  return { plans, left };
}

/** The tokens, asked for signals of layers that may count from the end. */
function inModel(tokens: TokenSource, layers: TowerLayers): TokenSource {
  return {
    ...tokens,
    signal: (request) => tokens.signal(requestInModel(request, layers)),
    nearest: (rows, of, k) => tokens.nearest(requestInModel(rows, layers), of, k),
  };
}
