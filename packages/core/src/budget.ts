import { InvalidArgumentError } from './errors.js';

/** The share of the tokens to keep, in (0, 1]. Always what is KEPT, never what is dropped. */
export interface RatioBudget {
  readonly keepRatio: number;
}

/**
 * The number of OUTPUT tokens of one image or crop (of one prompt inside the language model), a positive
 * integer.
 */
export interface CountBudget {
  readonly keepCount: number;
}

/** How many tokens to keep, fixed before the image is seen. */
export type Budget = RatioBudget | CountBudget;

/**
 * The share of all attention that the kept tokens hold together, in (0, 1]. How many they are follows from
 * the image: few where it concentrates, many where it spreads.
 */
export interface MassBudget {
  readonly attentionMass: number;
}

/**
 * A budget of a method that ranks tokens (or rows) by the attention they hold: fixed before the image is
 * seen, or by mass.
 */
export type ScoreBudget = Budget | MassBudget;

/** A budget applied to an actual number of tokens. */
export interface ResolvedBudget {
  /** Tokens to keep, in [1, available]. */
  readonly count: number;
  /** For the plan: that the budget asked for more than there is, or for a share of nothing. */
  readonly warnings: readonly string[];
}

/**
 * Checks a budget.
 * @throws InvalidArgumentError unless exactly one of keepRatio in (0, 1] and keepCount, a positive integer,
 * is there
 */
export function checkBudget(budget: Budget): Budget {
  return checkKinds(budget, ['keepRatio', 'keepCount']);
}

/**
 * floor(available * keepRatio + 1e-9), at least 1; or keepCount, at most `available`, with a warning where it
 * asks for more.
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
 * A fixed budget as {@link resolveBudget} does. By mass: the fewest of the highest scores whose sum, in
 * float64, is at least attentionMass - 1e-9 of the sum of all. A mass of 1 keeps all, scores of 0 too, so
 * that it is the identity as keepRatio 1 is. Where every score is 0 nothing has a share: all are kept, with a
 * warning.
 * @param scores one a token (or a row, where a method keeps whole rows), finite and not negative, at least
 * one
 * @throws InvalidArgumentError unless exactly one of keepRatio, keepCount and attentionMass, a number in (0,
 * 1], is there
 */
export function resolveScoreBudget(budget: ScoreBudget, scores: ArrayLike<number>): ResolvedBudget {
  checkKinds(budget, ['keepRatio', 'keepCount', 'attentionMass']);
  if (!('attentionMass' in budget)) return resolveBudget(budget, scores.length);
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

type BudgetKind = 'keepRatio' | 'keepCount' | 'attentionMass';

/** What each kind of budget takes. */
export const budgetChecks: Readonly<
  Record<BudgetKind, { valid: (value: unknown) => boolean; words: string }>
> = {
  keepRatio: { valid: isShare, words: 'a number in (0, 1], the share to keep' },
  keepCount: {
    valid: (value) => Number.isSafeInteger(value) && (value as number) >= 1,
    words: 'a positive integer, the tokens to keep',
  },
  attentionMass: { valid: isShare, words: 'a number in (0, 1], the share of the attention to keep' },
};

function isShare(value: unknown): boolean {
  return typeof value === 'number' && value > 0 && value <= 1;
}

function checkKinds<T extends ScoreBudget>(budget: T, kinds: readonly BudgetKind[]): T {
  const given = kinds.filter((kind) => Object.hasOwn(Object(budget) as object, kind));
  if (given.length !== 1) {
    throw new InvalidArgumentError(
      'budget',
      budget,
      `one of ${kinds.map((kind) => `{ ${kind} }`).join(', ')}`,
    );
  }
  const [kind] = given;
  const value = (budget as Partial<Record<BudgetKind, unknown>>)[kind];
  if (!budgetChecks[kind].valid(value))
    throw new InvalidArgumentError(`budget.${kind}`, value, budgetChecks[kind].words);
  return budget;
}
