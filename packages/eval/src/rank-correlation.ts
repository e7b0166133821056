/** How far two orders of the same things agree. */
import { mean, NORMAL_975 } from './statistics.js';

/** Spearman's correlation of two orders. */
export interface RankCorrelation {
  /** Things in both orders. */
  readonly n: number;
  /** From -1, the reverse order, to 1, the same. */
  readonly rho: number;
  /** Its 95 % interval, were the things a sample of more of their kind: Fisher's z. */
  readonly ci95: readonly [lower: number, upper: number];
}

/** Fewer pairs have no interval: its width is by n - 3. */
const FEWEST = 4;

/**
 * Spearman's rank correlation: Pearson's of the ranks, equal values at the mean of their ranks. The interval
 * is by Fisher's z with the variance (1 + rho^2 / 2) / (n - 3) of D. G. Bonett and T. A. Wright,
 * Psychometrika 65, 2000. At rho 1 and -1 z is infinite: there it is taken half a step inside, a step being
 * what one exchange of neighbours takes off, 12 / (n^3 - n), so that four things in the same order do not
 * pass for certainty.
 * @param b of the same things as `a`, in the same order
 * @returns null of fewer than four things, and where one side tells none from another
 */
export function spearman(a: readonly number[], b: readonly number[]): RankCorrelation | null {
  const n = a.length;
  const [x, y] = [centered(ranks(a)), centered(ranks(b))];
  const spread = Math.sqrt(dot(x, x) * dot(y, y));
  if (n < FEWEST || spread === 0) return null;
  const rho = Math.max(-1, Math.min(1, dot(x, y) / spread));
  const limit = 1 - 6 / (n ** 3 - n);
  const inside = Math.max(-limit, Math.min(limit, rho));
  const half = NORMAL_975 * Math.sqrt((1 + inside ** 2 / 2) / (n - 3));
  const [lower, upper] = [Math.tanh(Math.atanh(inside) - half), Math.tanh(Math.atanh(inside) + half)];
  return { n, rho, ci95: [Math.min(lower, rho), Math.max(upper, rho)] };
}

/** From 1; equal values share the mean of the ranks that they take up. */
function ranks(values: readonly number[]): number[] {
  return values.map((value) => {
    const below = values.filter((other) => other < value).length;
    const equal = values.filter((other) => other === value).length;
    return below + (equal + 1) / 2;
  });
}

function centered(values: readonly number[]): number[] {
  const middle = mean(values);
  return values.map((value) => value - middle);
}

function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, value, index) => sum + value * b[index], 0);
}
