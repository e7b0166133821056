/** The 0.975 quantile of the standard normal distribution. */
export const NORMAL_975 = 1.959963984540054;

/**
 * The 95 % interval of a share by Wilson's score (E. B. Wilson, JASA 22, 1927): it stays inside [0, 1] and
 * keeps its width where all or no answers are right, unlike the textbook's normal one.
 * @param n at least 1
 */
export function wilsonInterval(correct: number, n: number): [lower: number, upper: number] {
  const share = correct / n;
  const center = (share + NORMAL_975 ** 2 / (2 * n)) / (1 + NORMAL_975 ** 2 / n);
  const half =
    (NORMAL_975 / (1 + NORMAL_975 ** 2 / n)) *
    Math.sqrt((share * (1 - share)) / n + NORMAL_975 ** 2 / (4 * n ** 2));
  // At 0 and 1 the bound is exactly that; rounding must not put the share outside its own interval.
  return [correct === 0 ? 0 : center - half, correct === n ? 1 : center + half];
}

/** The middle value, the mean of the two middle ones where their number is even; null of none. */
export function median(values: readonly number[]): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Of at least one value. */
export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** The `share` quantile of ascending values by linear interpolation, as R's type 7 and NumPy's default. */
export function quantile(ascending: Float64Array, share: number): number {
  const place = (ascending.length - 1) * share;
  const below = ascending[Math.floor(place)];
  return below + (ascending[Math.ceil(place)] - below) * (place % 1);
}

/**
 * The two-sided p-value of McNemar's test, exact (binomial): how likely two rows that are right equally often
 * would part at least this much over the questions on which one of them alone is right. (Q. McNemar,
 * Psychometrika 12, 1947; min(1, 2 P(X <= min(b, c))) with X of Binomial(b + c, 1/2).)
 * @param onlyFirst b, questions that the first alone answered rightly
 * @param onlySecond c, those that the second alone did
 */
export function mcnemarExact(onlyFirst: number, onlySecond: number): number {
  const n = onlyFirst + onlySecond;
  let tail = 0;
  let logTerm = -n * Math.LN2; // log of C(n, k) / 2^n, which itself underflows from n = 1075 on
  for (let k = 0; k <= Math.min(onlyFirst, onlySecond); k++) {
    tail += Math.exp(logTerm);
    logTerm += Math.log((n - k) / (k + 1));
  }
  return Math.min(1, 2 * tail);
}

/**
 * Holm's adjustment of the p-values of tests that are read together: calling what stays below 0.05 a
 * difference is wrong about any of them in at most 5 % of such tables. (S. Holm, Scandinavian Journal of
 * Statistics 6, 1979.)
 * @returns in the order of `pValues`
 */
export function holmAdjust(pValues: readonly number[]): number[] {
  const order = pValues.map((p, test) => ({ p, test })).sort((a, b) => a.p - b.p);
  const adjusted = new Array<number>(pValues.length);
  let highest = 0;
  for (const [rank, { p, test }] of order.entries()) {
    highest = Math.max(highest, Math.min(1, p * (pValues.length - rank)));
    adjusted[test] = highest;
  }
  return adjusted;
}
