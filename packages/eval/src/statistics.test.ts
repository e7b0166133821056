import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { mean, median, wilsonInterval } from './statistics.js';

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
