import { InvalidArgumentError } from './errors.js';

/** The share of the tokens to keep, in (0, 1]. Always what is KEPT, never what is dropped. */
export interface RatioBudget {
  readonly keepRatio: number;
}

/** The number of OUTPUT tokens of one image or crop (of one prompt for a language reducer), a positive integer. */
export interface CountBudget {
  readonly keepCount: number;
}

/**
 * How many tokens to keep, fixed before the image is seen. A reducer whose method chooses the number from the image takes
 * a union of this and its own rule, as {@link ScoreBudget} is.
 */
export type Budget = RatioBudget | CountBudget;

/**
 * The share of all attention that the kept tokens hold together, in (0, 1]. How many they are follows from the image: few where it concentrates,
 * many where it spreads.
 */
export interface MassBudget {
  readonly attentionMass: number;
}

/** A budget of a method that ranks tokens (or rows) by the attention they hold: fixed before the image is seen, or by mass. */
export type ScoreBudget = Budget | MassBudget;

/** A budget applied to an actual number of tokens. */
export interface ResolvedBudget {
  /** Tokens to keep, in [1, available]. */
  readonly count: number;
  /** For the plan: that the budget asked for more than there is, or for a share of nothing. */
  readonly warnings: readonly string[];
}

/**
 * Checks a budget when a reducer is made, so that a wrong one fails before any image is read.
 * @throws InvalidArgumentError unless exactly one of keepRatio in (0, 1] and keepCount, a positive integer, is there
 */
export function checkBudget(budget: Budget): Budget {
  const given: unknown = budget;
  if (typeof given !== 'object' || given === null || 'keepRatio' in given === 'keepCount' in given) {
    throw new InvalidArgumentError('budget', budget, 'either { keepRatio } or { keepCount }');
  }
  if ('keepRatio' in budget) {
    const { keepRatio } = budget;
    if (!(typeof keepRatio === 'number' && keepRatio > 0 && keepRatio <= 1)) {
      throw new InvalidArgumentError('budget.keepRatio', keepRatio, 'a number in (0, 1], the share to keep');
    }
  } else if (!(Number.isSafeInteger(budget.keepCount) && budget.keepCount >= 1)) {
    throw new InvalidArgumentError(
      'budget.keepCount',
      budget.keepCount,
      'a positive integer, the tokens to keep',
    );
  }
  return budget;
}

/**
 * floor(available * keepRatio + 1e-9), at least 1; or keepCount, at most `available`, with a warning where it asks for more.
 * @param available tokens (or rows, where a method keeps whole rows) to choose from, at least 1
 * @throws InvalidArgumentError as {@link checkBudget}
 */
export function resolveBudget(budget: Budget, available: number): ResolvedBudget {
  checkBudget(budget);
  if ('keepRatio' in budget) {
    return { count: Math.max(1, Math.floor(available * budget.keepRatio + 1e-9)), warnings: [] };
  }
  const { keepCount } = budget;
  if (keepCount <= available) return { count: keepCount, warnings: [] };
  return {
    count: available,
    warnings: [`keepCount ${keepCount} is more than the ${available} tokens there are: all kept`],
  };
}

/**
 * As {@link checkBudget}, with `{ attentionMass }` as a third kind.
 * @throws InvalidArgumentError unless exactly one of keepRatio, keepCount and attentionMass, a number in (0, 1], is there
 */
export function checkScoreBudget(budget: ScoreBudget): ScoreBudget {
  if (!isMassBudget(budget)) return checkBudget(budget);
  if ('keepRatio' in budget || 'keepCount' in budget) {
    throw new InvalidArgumentError(
      'budget',
      budget,
      'one of { keepRatio }, { keepCount }, { attentionMass }',
    );
  }
  const { attentionMass } = budget;
  if (!(typeof attentionMass === 'number' && attentionMass > 0 && attentionMass <= 1)) {
    throw new InvalidArgumentError(
      'budget.attentionMass',
      attentionMass,
      'a number in (0, 1], the share of the attention to keep',
    );
  }
  return budget;
}

/**
 * A fixed budget as {@link resolveBudget} does. By mass: the fewest of the highest scores whose sum, in float64, is at least attentionMass - 1e-9 of the
 * sum of all. A mass of 1 keeps all, scores of 0 too, so that it is the identity as keepRatio 1 is. Where every score is 0 nothing has a share: all are
 * kept, with a warning.
 * @param scores one a token (or a row, where a method keeps whole rows), finite and not negative, at least one
 * @throws InvalidArgumentError as {@link checkScoreBudget}
 */
export function resolveScoreBudget(budget: ScoreBudget, scores: ArrayLike<number>): ResolvedBudget {
  checkScoreBudget(budget);
  if (!isMassBudget(budget)) return resolveBudget(budget, scores.length);
  const { attentionMass } = budget;
  // Added up in one order, so that moving tokens changes nothing.
  const descending = new Float64Array(scores).sort().reverse();
  const total = descending.reduce((sum, score) => sum + score, 0);
  if (total === 0) {
    const warnings = [`attentionMass ${attentionMass}: no token holds any attention, so all are kept`];
    return { count: scores.length, warnings };
  }
  if (attentionMass === 1) return { count: scores.length, warnings: [] };
  let [count, held] = [1, descending[0]];
  while (held < (attentionMass - 1e-9) * total) held += descending[count++];
  return { count, warnings: [] };
}

function isMassBudget(budget: ScoreBudget): budget is MassBudget {
  return typeof budget === 'object' && (budget as ScoreBudget | null) !== null && 'attentionMass' in budget;
}
