/** Rules that a graph carries out: how many tokens each keeps. */
import { resolveBudget } from '@foveate/core';
import type { InnerSite, Rule } from './api.js';

/** A site where the graph decides. */
export type RuledSite = InnerSite & { readonly rule: Rule };

/** Whether the graph decides at a site. */
export function isRuled(site: InnerSite): site is RuledSite {
  return site.rule !== null;
}

/** How many tokens the rules leave, each of what those before it left. */
export function resolveInTurn(
  rules: readonly Rule[],
  tokens: number,
): { count: number; warnings: readonly string[] }[] {
  let left = tokens;
  return rules.map(({ budget }) => {
    const { count, warnings } = resolveBudget(budget, left);
    left = count;
    return { count, warnings };
  });
}
