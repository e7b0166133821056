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
 * a union of this and its own rule.
 */
export type Budget = RatioBudget | CountBudget;

/** A budget applied to an actual number of tokens. */
export interface ResolvedBudget {
  /** Tokens to keep, in [1, available]. */
  readonly count: number;
  /** For the plan: that the budget asked for more than there is. */
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
