import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from './errors.js';
import { checkMergeAmount, resolveMerging, type MergeAmount } from './merge-amount.js';

describe('resolveMerging', () => {
  it('spreads a budget evenly, the larger ones first', () => {
    // CLIP-L/336: 432 of 576 patches in 23 layers, 23 * 18 = 414
    const { counts, warnings } = resolveMerging({ keepRatio: 0.25 }, 576, 23);
    expect(counts).toEqual([...Array<number>(18).fill(19), ...Array<number>(5).fill(18)]);
    expect(warnings).toEqual([]);
  });

  it('merges more in early layers where late ones have too few tokens', () => {
    expect(resolveMerging({ keepCount: 1 }, 8, 3).counts).toEqual([4, 2, 1]);
    expect(resolveMerging({ keepCount: 2 }, 9, 3).counts).toEqual([3, 2, 2]);
    expect(resolveMerging({ keepCount: 1 }, 7, 3).counts).toEqual([3, 2, 1]);
  });

  it('says so where there are too few layers', () => {
    expect(resolveMerging({ keepCount: 1 }, 9, 3)).toEqual({
      counts: [4, 2, 1],
      warnings: ['3 layers that merge half of their 9 tokens at most leave 2, not 1'],
    });
  });

  it('merges nothing where all are kept, and warns of more', () => {
    expect(resolveMerging({ keepRatio: 1 }, 9, 3)).toEqual({ counts: [0, 0, 0], warnings: [] });
    expect(resolveMerging({ keepCount: 10 }, 9, 3).warnings).toEqual([expect.stringContaining('all kept')]);
  });

  it('leaves exactly what it says wherever layers can, and never merges more than half', () => {
    const samples = fc.record({
      tokens: fc.integer({ min: 1, max: 600 }),
      layers: fc.integer({ min: 1, max: 30 }),
      keepCount: fc.integer({ min: 1, max: 600 }),
    });
    fc.assert(
      fc.property(samples, ({ tokens, layers, keepCount }) => {
        const { counts, warnings } = resolveMerging({ keepCount }, tokens, layers);
        let left = tokens;
        let least = tokens;
        for (const count of counts) {
          expect(count).toBeLessThanOrEqual(left / 2);
          left -= count;
          least = Math.ceil(least / 2);
        }
        expect(counts).toHaveLength(layers);
        expect(left).toBe(Math.max(least, Math.min(keepCount, tokens)));
        expect(warnings.length > 0).toBe(left !== keepCount);
      }),
    );
  });

  it('has the official schedules', () => {
    // parse_r of the official code, by hand: (r, inflect) -> from trunc(r (1 - inflect)) to 2 r minus it
    const counts = (r: number, inflect: number, layers: number): readonly number[] =>
      resolveMerging({ r, inflect }, 1000, layers).counts;
    expect(counts(16, 0, 4)).toEqual([16, 16, 16, 16]);
    expect(counts(8, -1, 5)).toEqual([16, 12, 8, 4, 0]);
    expect(counts(8, 1, 4)).toEqual([0, 5, 10, 16]);
    expect(counts(5, 0.5, 4)).toEqual([2, 4, 6, 8]);
    expect(counts(5, 0.5, 1)).toEqual([2]); // where the official code divides by 0
  });
});

it.each([
  [{ keepRatio: 0 }],
  [{ keepCount: 2, keepRatio: 0.5 }],
  [{ r: -1, inflect: 0 }],
  [{ r: 0.5, inflect: 0 }],
  [{ r: 2, inflect: 1.5 }],
  [{ r: 2, inflect: NaN }],
  [{ r: 2 }],
])('%j is no amount', (amount) => {
  expect(() => checkMergeAmount(amount as MergeAmount)).toThrow(InvalidArgumentError);
});
