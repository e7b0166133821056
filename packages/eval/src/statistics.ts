/** The 0.975 quantile of the standard normal distribution. */
const Z = 1.959963984540054;

/**
 * The 95 % interval of a share by Wilson's score (E. B. Wilson, JASA 22, 1927): it stays inside [0, 1] and keeps its width where all or no answers
 * are right, unlike the textbook's normal one.
 * @param n at least 1
 */
export function wilsonInterval(correct: number, n: number): [lower: number, upper: number] {
  const share = correct / n;
  const center = (share + Z ** 2 / (2 * n)) / (1 + Z ** 2 / n);
  const half = (Z / (1 + Z ** 2 / n)) * Math.sqrt((share * (1 - share)) / n + Z ** 2 / (4 * n ** 2));
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
