import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { spearman } from './rank-correlation.js';

describe('spearman', () => {
  it.each([
    // No ties: 1 - 6 sum(d^2) / (n (n^2 - 1)); one exchange of neighbours is d^2 = 2, 1 - 12 / 60.
    [[1, 2, 3, 4], [10, 20, 30, 40], 1],
    [[1, 2, 3, 4], [4, 3, 2, 1], -1],
    [[1, 2, 3, 4], [1, 2, 4, 3], 0.8],
    [[0.3, 0.1, 0.2, 0.4], [7, 9, 1, 8], -0.2], // ranks 3 1 2 4 and 2 4 1 3: d^2 = 1 + 9 + 1 + 1, 1 - 72 / 60
    // Ties: ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4. Centred -1.5, 0, 0, 1.5 and -1.5, -.5, .5, 1.5:
    // 4.5 / sqrt(4.5 * 5).
    [[1, 2, 2, 3], [1, 2, 3, 4], 4.5 / Math.sqrt(4.5 * 5)],
    // Ties on both sides, ranks 1.5, 1.5, 3.5, 3.5, 5 and 2, 2, 2, 4, 5. Centred -1.5, -1.5, .5, .5, 2 and
    // -1, -1, -1, 1, 2: 1.5 + 1.5 - .5 + .5 + 4 = 7 over sqrt(9 * 8).
    [[5, 5, 8, 8, 9], [1, 1, 1, 2, 3], 7 / Math.sqrt(9 * 8)],
  ])('of %j and %j is %d', (a, b, rho) => {
    expect(spearman(a, b)?.rho).toBeCloseTo(rho, 12);
    expect(spearman(b, a)?.rho).toBeCloseTo(rho, 12);
    expect(spearman(a, b)?.n).toBe(a.length);
  });

  it('has the interval of Fisher and of Bonett and Wright', () => {
    // Seven things, two exchanges of neighbours: rho = 1 - 6 * 4 / 336 = 0.928571...
    // z = atanh(rho) = 1.647918; half = 1.959964 * sqrt((1 + .431122) / 4) = 1.172348
    const { rho, ci95 } = spearman([1, 2, 3, 4, 5, 6, 7], [2, 1, 3, 4, 5, 7, 6])!;
    expect(rho).toBeCloseTo(13 / 14, 12);
    expect(ci95[0]).toBeCloseTo(Math.tanh(1.647918 - 1.172348), 5);
    expect(ci95[1]).toBeCloseTo(Math.tanh(1.647918 + 1.172348), 5);
  });

  it('is not certain of four things in the same order', () => {
    // Half a step inside: .9, z = 1.472219, half = 1.959964 * sqrt(1.405) = 2.323198
    const { ci95 } = spearman([1, 2, 3, 4], [1, 2, 3, 4])!;
    expect(ci95[0]).toBeCloseTo(Math.tanh(1.472219 - 2.323198), 5);
    expect(ci95[1]).toBe(1);
  });

  it.each([
    [
      [1, 2, 3],
      [1, 2, 3],
    ], // no interval
    [
      [1, 2, 3, 4],
      [5, 5, 5, 5],
    ],
    [[], []],
  ])('of %j and %j there is none', (a, b) => {
    expect(spearman(a, b)).toBeNull();
  });

  it('knows order alone, and turns with it', () => {
    const pairs = fc.array(fc.tuple(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 0, max: 9 })), {
      minLength: 4,
      maxLength: 12,
    });
    fc.assert(
      fc.property(pairs, (drawn) => {
        const [a, b] = [drawn.map(([x]) => x), drawn.map(([, y]) => y)];
        const found = spearman(a, b);
        const stretched = spearman(
          a.map((x) => Math.exp(x)),
          b.map((y) => y ** 3),
        );
        const turned = spearman(
          a.map((x) => -x),
          b,
        );
        if (!found) return;
        expect(stretched?.rho).toBeCloseTo(found.rho, 10);
        expect(turned?.rho).toBeCloseTo(-found.rho, 10);
        expect(found.ci95[0]).toBeLessThanOrEqual(found.rho);
        expect(found.ci95[1]).toBeGreaterThanOrEqual(found.rho);
        expect(Math.max(...found.ci95.map(Math.abs))).toBeLessThanOrEqual(1);
      }),
    );
  });
});
