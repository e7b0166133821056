import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { resolveBudget, resolveScoreBudget, type Budget, type ScoreBudget } from './budget.js';
import { InvalidArgumentError } from './errors.js';

describe('resolveBudget', () => {
  it.each([
    [0.25, 576, 144],
    [0.11, 256, 28], // 28.16
    [0.06, 256, 15], // 15.36
    [0.29, 100, 29], // 100 * 0.29 is 28.999999999999996 in binary
    [0.001, 576, 1], // at least one
    [1, 576, 576],
  ])('keepRatio %f of %i keeps %i', (keepRatio, available, count) => {
    expect(resolveBudget({ keepRatio }, available)).toEqual({ count, warnings: [] });
  });

  it('keepCount keeps that many, and warns where there are fewer', () => {
    expect(resolveBudget({ keepCount: 16 }, 256)).toEqual({ count: 16, warnings: [] });
    expect(resolveBudget({ keepCount: 256 }, 256)).toEqual({ count: 256, warnings: [] });
    expect(resolveBudget({ keepCount: 300 }, 256)).toEqual({
      count: 256,
      warnings: ['keepCount 300 is more than the 256 tokens there are: all kept'],
    });
  });

  it.each([
    {},
    { keepRatio: 0.5, keepCount: 3 },
    { keepRatio: 0 },
    { keepRatio: 1.01 },
    { keepRatio: NaN },
    { keepCount: 0 },
    { keepCount: 2.5 },
    { keepCount: Infinity },
    null,
    0.25,
  ])('refuses %j', (budget) => {
    const wrong = budget as unknown as Budget;
    expect(() => resolveBudget(wrong, 10)).toThrow(
      expect.toSatisfy((error) => InvalidArgumentError.isInstance(error)),
    );
  });
});

describe('resolveScoreBudget', () => {
  // All 1; summed from the highest: .5, .75, .875, 1, 1.
  const scores = Float32Array.of(0.125, 0.5, 0, 0.25, 0.125);

  it.each([
    [0.25, 1],
    [0.5, 1], // just held by one
    [0.51, 2],
    [0.75, 2],
    [0.8, 3], // two scores of .125: one of them is enough
    [0.875, 3],
    [0.99, 4],
    [1, 5], // all, that of 0 too
    [1e-12, 1], // at least one
  ])('attentionMass %f of .5, .25, .125, .125, 0 keeps %i', (attentionMass, count) => {
    expect(resolveScoreBudget({ attentionMass }, scores)).toEqual({ count, warnings: [] });
  });

  it('is about shares: the scores need not sum to 1', () => {
    const large = scores.map((score) => 1000 * score);
    expect(resolveScoreBudget({ attentionMass: 0.75 }, large).count).toBe(2);
  });

  it('keeps what holds exactly the share, although a sum of tenths rounds', () => {
    // In binary, 10 * .1 is not ten times added .1, and .7 of it not seven times.
    for (const tenths of [1, 2, 3, 4, 5, 6, 7, 8, 9]) {
      for (const equal of [new Float64Array(10).fill(0.1), new Float32Array(10).fill(0.1)]) {
        expect(resolveScoreBudget({ attentionMass: tenths / 10 }, equal).count).toBe(tenths);
      }
    }
  });

  it('adds up in float64: small scores beside a large one count', () => {
    // In float32 1 + 2^-25 is 1, however often it is added. All: 1 + 2^20 * 2^-25 = 33 / 32.
    const long = new Float32Array(2 ** 20 + 1).fill(2 ** -25).with(7, 1);
    expect(resolveScoreBudget({ attentionMass: 32 / 33 }, long).count).toBe(1);
    expect(resolveScoreBudget({ attentionMass: 32.5 / 33 }, long).count).toBe(1 + 2 ** 19);
  });

  it('keeps all, and says why, where every score is 0', () => {
    expect(resolveScoreBudget({ attentionMass: 0.5 }, new Float32Array(3))).toEqual({
      count: 3,
      warnings: ['attentionMass 0.5: no token holds any attention, so all are kept'],
    });
  });

  it('keeps the fewest that hold the share, wherever they stand', () => {
    const integers = fc.array(fc.integer({ min: 0, max: 1000 }), { minLength: 1, maxLength: 40 });
    const samples = integers
      .filter((values) => values.some((value) => value > 0))
      .chain((values) =>
        fc.record({
          values: fc.constant(values),
          moved: fc.shuffledSubarray(values, { minLength: values.length }),
          percent: fc.integer({ min: 1, max: 99 }),
        }),
      );
    fc.assert(
      fc.property(samples, ({ values, moved, percent }) => {
        const budget = { attentionMass: percent / 100 };
        const { count } = resolveScoreBudget(budget, values);
        // In integers, where nothing rounds: 100 * sum of the first >= percent * sum of all.
        const held = (tokens: number): number =>
          [...values]
            .sort((a, b) => b - a)
            .slice(0, tokens)
            .reduce((sum, value) => sum + value, 0);
        expect(100 * held(count)).toBeGreaterThanOrEqual(percent * held(values.length));
        if (count > 1) expect(100 * held(count - 1)).toBeLessThan(percent * held(values.length));
        expect(resolveScoreBudget(budget, moved).count).toBe(count);
      }),
    );
  });

  it('resolves fixed budgets as resolveBudget does', () => {
    expect(resolveScoreBudget({ keepRatio: 0.4 }, scores)).toEqual({ count: 2, warnings: [] });
    expect(resolveScoreBudget({ keepCount: 6 }, scores)).toEqual(resolveBudget({ keepCount: 6 }, 5));
  });

  it.each([
    { attentionMass: 0 },
    { attentionMass: 1.01 },
    { attentionMass: -0.5 },
    { attentionMass: NaN },
    { attentionMass: '0.8' },
    { attentionMass: null },
    { attentionMass: 0.8, keepRatio: 0.5 },
    { attentionMass: 0.8, keepCount: 3 },
    { keepRatio: 2 },
    {},
    null,
    0.8,
  ])('refuses %j', (budget) => {
    const wrong = budget as unknown as ScoreBudget;
    expect(() => resolveScoreBudget(wrong, scores)).toThrow(
      expect.toSatisfy((error) => InvalidArgumentError.isInstance(error)),
    );
  });

  it('is no fixed budget', () => {
    const mass = { attentionMass: 0.8 } as unknown as Budget;
    expect(() => resolveBudget(mass, 5)).toThrow(
      'budget must be one of { keepRatio }, { keepCount }; received {"attentionMass":0.8}',
    );
  });
});
