import { describe, expect, it } from 'vitest';
import { resolveBudget, type Budget } from './budget.js';
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
