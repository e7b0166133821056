import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { holmAdjust, mcnemarExact, mean, median, quantile, wilsonInterval } from './statistics.js';

describe('wilsonInterval', () => {
  // R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
  it.each([
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
  ])('%i of %i', (correct, n, lower, upper) => {
    const interval = wilsonInterval(correct, n);
    expect(interval[0]).toBeCloseTo(lower, 4);
    expect(interval[1]).toBeCloseTo(upper, 4);
  });

  it('holds the share, stays in [0, 1], and is mirrored for the wrong answers', () => {
    const counts = fc
      .integer({ min: 1, max: 5000 })
      .chain((n) => fc.tuple(fc.integer({ min: 0, max: n }), fc.constant(n)));
    fc.assert(
      fc.property(counts, ([correct, n]) => {
        const [lower, upper] = wilsonInterval(correct, n);
        expect(lower).toBeGreaterThanOrEqual(0);
        expect(lower).toBeLessThanOrEqual(correct / n);
        expect(upper).toBeGreaterThanOrEqual(correct / n);
        expect(upper).toBeLessThanOrEqual(1);
        expect(wilsonInterval(n - correct, n)[0]).toBeCloseTo(1 - upper, 12);
      }),
    );
  });
});

describe('median and mean', () => {
  it.each([
    [[3], 3],
    [[10, 1, 2], 2],
    [[10, 1, 2, 4], 3],
    [[100, 20, 3], 20], // by number, not by text
  ])('median of %j', (values, expected) => {
    expect(median(values)).toBe(expected);
  });

  it('of none there is no median', () => {
    expect(median([])).toBeNull();
  });

  it('mean', () => {
    expect(mean([1, 2, 6])).toBe(3);
  });
});

describe('quantile', () => {
  // numpy.quantile([1, 2, 4, 8], ...)
  it.each([
    [0, 1],
    [0.025, 1.075],
    [0.3, 1.9],
    [0.975, 7.7],
    [1, 8],
  ])('%d', (share, expected) => {
    expect(quantile(Float64Array.of(1, 2, 4, 8), share)).toBeCloseTo(expected, 12);
  });
});

describe('mcnemarExact', () => {
  it.each([
    [0, 0, 1],
    [3, 3, 1],
    [0, 5, 2 / 2 ** 5],
    [1, 9, 22 / 2 ** 10], // 2 (1 + 10) / 2^10
    [15, 5, 0.04138946533203125], // 2 (1 + 20 + 190 + 1140 + 4845 + 15504) / 2^20
    [600, 700, 0.0060157938610449525], // Python: float(2 * Fraction(sum(comb(1300, k) for k in range(601)), 2**1300))
  ])('%i and %i', (first, second, p) => {
    expect(mcnemarExact(first, second)).toBeCloseTo(p, 12);
    expect(mcnemarExact(second, first)).toBe(mcnemarExact(first, second));
  });

  it('is a probability that falls as the rows part', () => {
    const counts = fc.tuple(fc.integer({ min: 0, max: 1500 }), fc.integer({ min: 0, max: 1500 }));
    fc.assert(
      fc.property(counts, ([first, second]) => {
        const p = mcnemarExact(first, second);
        expect(p).toBeGreaterThanOrEqual(0);
        expect(p).toBeLessThanOrEqual(1);
        const [fewer, more] = first < second ? [first, second] : [second, first];
        expect(mcnemarExact(fewer, more + 1)).toBeLessThanOrEqual(p + 1e-12);
      }),
    );
  });
});

describe('holmAdjust', () => {
  it.each([
    [[], []],
    [[0.2], [0.2]],
    // S. Holm's procedure by hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, and no p below one before it
    [
      [0.01, 0.04, 0.03, 0.005],
      [0.03, 0.06, 0.06, 0.02],
    ],
    [
      [0.6, 0.5],
      [1, 1],
    ],
  ])('of %j is %j', (pValues, expected) => {
    const adjusted = holmAdjust(pValues);
    expect(adjusted).toHaveLength(expected.length);
    for (const [test, p] of expected.entries()) expect(adjusted[test]).toBeCloseTo(p, 12);
  });
});
