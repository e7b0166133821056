import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createBootstrap } from './bootstrap.js';

const one = (n: number): string[] => new Array<string>(n).fill('kind');

describe('createBootstrap', () => {
  it('finds the quantiles of the binomial distribution, which resampled shares follow', () => {
    // scipy.stats.binom.ppf([0.025, 0.975], 100, 0.3) is [21, 39]
    const values = Array.from({ length: 100 }, (_, question) => Number(question < 30));
    const [lower, upper] = createBootstrap(one(100), 0)(values);
    expect(lower).toBeCloseTo(0.21, 12);
    expect(upper).toBeCloseTo(0.39, 12);
  });

  it('resamples each kind on its own: what lies between kinds is no spread', () => {
    const interval = createBootstrap(['a', 'b', 'a', 'b'], 0, 100);
    expect(interval([1, 0, 1, 0])).toEqual([0.5, 0.5]);
    expect(createBootstrap(one(4), 0, 100)([1, 0, 1, 0])).not.toEqual([0.5, 0.5]);
  });

  it('puts all rows to the same draws: the interval of equal answers is theirs, of their difference 0', () => {
    const values = [1, 0, 0, 1, 1, 0, 1];
    const interval = createBootstrap(one(7), 5, 500);
    expect(interval(values)).toEqual(interval([...values]));
    expect(interval(values.map(() => 0))).toEqual([0, 0]);
    expect(createBootstrap(one(7), 5, 500)(values)).toEqual(interval(values));
  });

  it('stays within the values', () => {
    const values = fc.array(fc.constantFrom(-1, 0, 1), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(values, fc.integer(), (gains, seed) => {
        const [lower, upper] = createBootstrap(one(gains.length), seed, 50)(gains);
        expect(lower).toBeGreaterThanOrEqual(Math.min(...gains));
        expect(upper).toBeGreaterThanOrEqual(lower);
        expect(upper).toBeLessThanOrEqual(Math.max(...gains));
      }),
    );
  });
});
