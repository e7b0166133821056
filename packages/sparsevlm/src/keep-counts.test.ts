import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { countOfRank, keepCounts } from './keep-counts.js';
import { outputCount } from './recycled.js';

/** Of 32 layers 2, 4, 9 and 17, by the official outputs 309, 204, 113 of 576 and so on. */
function meanOf(entered: number, kept: readonly number[]): number {
  const [weights, counts] = [[4, 9, 17], [entered]];
  for (const each of kept) {
    const before = counts[counts.length - 1];
    const pruned = before - each;
    counts.push(pruned === 0 ? before : each + Math.floor((Math.floor(pruned * 0.3) + 1) / 10) + 1);
  }
  return (2 * entered + weights.reduce((sum, weight, stage) => sum + weight * counts[stage + 1], 0)) / 32;
}

describe('outputCount', () => {
  it.each([
    [576, 300, 309],
    [309, 200, 204],
    [204, 110, 113],
    [576, 66, 82],
    [82, 30, 32],
    [32, 17, 18],
    [64, 63, 64],
    [64, 64, 64],
  ])('of %i tokens, %i kept: %i', (length, kept, output) => {
    expect(outputCount(length, kept)).toBe(output);
  });
});

describe('keepCounts', () => {
  it.each([
    [192, [300, 200, 110], 192.03],
    [128, [303, 110, 36], 128.63],
    [96, [238, 48, 26], 96.94],
    [64, [66, 30, 17], 64.81],
  ])('is the official list for %i of 576', (count, kept, mean) => {
    expect(keepCounts(count, 576)).toEqual({ kept, official: true, mean: meanOf(576, kept) });
    expect(meanOf(576, kept)).toBeCloseTo(mean, 2);
  });

  it('is the nearest list times one factor otherwise', () => {
    // 64 of 256 are 144 of 576: by 128's, which leaves 312, 117, 39 of 576. Times 256 / 576 and 1.1646 that
    // is 161 (157 and 4 clusters), 61 (57 and 4), 20 (18 and 2); with 1.1647 the mean is above 64.
    const { kept, mean } = keepCounts(64, 256);
    expect(kept).toEqual([157, 57, 18]);
    expect(mean).toBe((2 * 256 + 4 * 161 + 9 * 61 + 17 * 20) / 32);
  });

  it('keeps the mean within one token of what is asked, never above it, where that can be', () => {
    const cases = fc
      .integer({ min: 1, max: 3000 })
      .chain((entered) =>
        fc.record({ entered: fc.constant(entered), count: fc.integer({ min: 1, max: entered }) }),
      );
    fc.assert(
      fc.property(cases, ({ entered, count }) => {
        const { kept, official, mean } = keepCounts(count, entered);
        expect(mean).toBeCloseTo(meanOf(entered, kept), 9);
        const fewest = meanOf(entered, fewestKept(entered));
        if (count < fewest) expect(mean).toBe(fewest);
        else if (!official) expect(count - mean).toBeGreaterThanOrEqual(0);
        if (count >= fewest) expect(Math.abs(mean - count)).toBeLessThan(1);
      }),
      { numRuns: 1000 },
    );
  });

  it('never leaves fewer for a larger budget', () => {
    for (const entered of [64, 256, 576]) {
      let before = 0;
      for (let count = 1; count <= entered; count++) {
        const { mean } = keepCounts(count, entered);
        expect(mean).toBeGreaterThanOrEqual(before);
        before = Math.floor(mean);
      }
    }
  });

  it('leaves a stage alone where nothing need go', () => {
    expect(keepCounts(10, 10)).toEqual({ kept: [10, 10, 10], official: false, mean: 10 });
    expect(keepCounts(1, 1)).toEqual({ kept: [1, 1, 1], official: false, mean: 1 });
  });
});

/** One token at each stage, and the clusters. */
function fewestKept(entered: number): number[] {
  const kept: number[] = [];
  let length = entered;
  for (let stage = 0; stage < 3; stage++) {
    kept.push(1);
    if (length > 1) length = 2 + Math.floor((Math.floor((length - 1) * 0.3) + 1) / 10);
  }
  return kept;
}

describe('countOfRank', () => {
  it.each([
    [5, 192, 67], // 67.5
    [5, 128, 51],
    [5, 64, 4],
    [1, 64, 0],
  ])('of rank %i for %i of 576 is the official scale’s', (rank, count, kept) => {
    expect(countOfRank(rank, count, 576)).toBe(kept);
  });

  it('is in proportion for other budgets', () => {
    expect(countOfRank(5, 96, 288)).toBe(33); // 192 of 576: half of 67.5
    expect(countOfRank(5, 100, 576)).toBe(39); // by 128: 51 * 100 / 128
    expect(countOfRank(5, 96, 576)).toBe(38); // as near to 64: the larger, 51 * 96 / 128
  });
});
