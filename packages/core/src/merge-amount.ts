/** How many tokens each layer of an encoder merges. */
import { checkBudget, resolveBudget, type Budget } from './budget.js';
import { InvalidArgumentError } from './errors.js';

/**
 * The official schedule of ToMe: `r` tokens merged in each layer at `inflect` 0; otherwise from r * (1 -
 * inflect) in the first to r * (1 + inflect) in the last, -1 from 2 r down to none.
 */
export interface MergeSchedule {
  /** A whole number, 0 or more. */
  readonly r: number;
  /** In [-1, 1]. */
  readonly inflect: number;
}

/** The tokens that are left behind the last layer, or what each layer merges. */
export type MergeAmount = Budget | MergeSchedule;

/** An amount in an encoder of some depth. */
export interface ResolvedMerging {
  /**
   * [layers] tokens that each layer merges into others; of a schedule they may be more than half of its
   * tokens, which is what a layer merges at most.
   */
  readonly counts: readonly number[];
  /** For the plan, one sentence each. */
  readonly warnings: readonly string[];
}

/**
 * Checks an amount.
 * @throws InvalidArgumentError unless it is a budget, or a schedule in its range
 */
export function checkMergeAmount(amount: MergeAmount): MergeAmount {
  if (!isSchedule(amount)) return checkBudget(amount);
  const { r, inflect } = amount;
  if (!(Number.isSafeInteger(r) && r >= 0))
    throw new InvalidArgumentError('r', r, 'a whole number, 0 or more');
  if (!(inflect >= -1 && inflect <= 1)) throw new InvalidArgumentError('inflect', inflect, 'in [-1, 1]');
  return amount;
}

/**
 * What each layer merges. A budget is spread as evenly as whole numbers allow, the larger ones first, so that
 * exactly what it says is left; where late layers have too few tokens for it, earlier ones merge more.
 * @param tokens that enter the first layer, at least 1
 * @param layers of the encoder, at least 1
 * @throws InvalidArgumentError as {@link checkMergeAmount}
 */
export function resolveMerging(amount: MergeAmount, tokens: number, layers: number): ResolvedMerging {
  checkMergeAmount(amount);
  if (isSchedule(amount)) return { counts: scheduled(amount, layers), warnings: [] };
  const { count, warnings } = resolveBudget(amount, tokens);
  const counts: number[] = [];
  let left = tokens;
  for (let layer = 0; layer < layers; layer++) {
    const even = Math.ceil((left - count) / (layers - layer));
    const enough = left - count * 2 ** (layers - layer - 1); // later layers halve what they get at most
    const merged = Math.min(Math.max(even, enough), Math.floor(left / 2));
    counts.push(merged);
    left -= merged;
  }
  if (left === count) return { counts, warnings };
  const most = `${layers} layers that merge half of their ${tokens} tokens at most leave ${left}, not ${count}`;
  return { counts, warnings: [...warnings, most] };
}

function isSchedule(amount: MergeAmount): amount is MergeSchedule {
  return Object.hasOwn(Object(amount) as object, 'r');
}

/** As the official code's parse_r. */
function scheduled({ r, inflect }: MergeSchedule, layers: number): number[] {
  const first = Math.trunc(r * (1 - inflect));
  const step = layers > 1 ? (2 * r - first - first) / (layers - 1) : 0;
  return Array.from({ length: layers }, (_, layer) => Math.trunc(first + step * layer));
}
