import { describe, expect, it } from 'vitest';
import { countOutliers, fillWithTopAndSample, keepTopAndSample } from './kept-tokens.js';

describe('countOutliers', () => {
  it.each<[string, number[], number]>([
    // Places 1 and 3 of 5: Q1 = 1, Q3 = 2, bound 3.5.
    ['nothing on the bound', [1, 3.5, 2, 1, 2], 0],
    ['what lies above it', [1, 3.75, 2, 1, 2], 1],
    // Places 1.75 and 5.25 of 8: Q1 = 1, Q3 = 2 + .25 * (16 - 2) = 5.5, bound 12.25.
    ['quartiles between two values', [1, 1, 16, 1, 1, 1, 32, 2], 2],
    // Places 1.5 and 4.5 of 7: Q1 = 0, Q3 = 0, bound 0.
    ['all that is not 0 where nearly all is 0', [0, 0, 0, 0, 0, 0, 1e-9], 1],
    ['none of equals', [3, 3, 3, 3], 0],
    ['none of one', [3], 0],
  ])('counts %s', (_, values, count) => {
    expect(countOutliers(Float32Array.from(values))).toBe(count);
  });
});

/** 11, 10, 9, ... 0 */
const ranking = Uint32Array.from({ length: 12 }, (_, place) => 11 - place);

describe('keepTopAndSample', () => {
  it('samples at a third of the distance at which outliers would stand evenly, never the last token', () => {
    expect(keepTopAndSample(ranking, 1)).toEqual([11, 0, 4, 8]); // int(12 / 3)
    expect(keepTopAndSample(ranking, 2)).toEqual([11, 10, 0, 2, 4, 6, 8]); // int(6 / 3), without 10
    expect(keepTopAndSample(ranking, 5)).toEqual([11, 10, 9, 8, 7, 0, 1, 2, 3, 4, 5, 6]); // int(2 / 3): at least 1
  });

  it('rounds twice, as the official code does', () => {
    // int(1 / (3 / 34)) = 11, int(11 / 3) = 3; 34 / 9 would be 3.8.
    const first = Uint32Array.from({ length: 34 }, (_, token) => token);
    expect(keepTopAndSample(first, 3)).toEqual([0, 1, 2, ...[3, 6, 9, 12, 15, 18, 21, 24, 27, 30]]);
  });

  it('is empty where nothing stands out', () => {
    expect(keepTopAndSample(ranking, 0)).toEqual([]);
  });
});

describe('fillWithTopAndSample', () => {
  it('adds of the ranking where one outlier more would sample too many', () => {
    // One and its sample are 4 tokens, two and theirs 7, three and theirs (step 1) all 12.
    expect(fillWithTopAndSample(ranking, 4)).toEqual([11, 0, 4, 8]);
    expect(fillWithTopAndSample(ranking, 6)).toEqual([11, 10, 9, 0, 4, 8]);
    expect(fillWithTopAndSample(ranking, 7)).toEqual([11, 10, 0, 2, 4, 6, 8]);
    expect(fillWithTopAndSample(ranking, 9)).toEqual([11, 10, 9, 7, 0, 2, 4, 6, 8]);
  });

  it('is the ranking alone where there is no room for a sample', () => {
    expect(fillWithTopAndSample(ranking, 0)).toEqual([]);
    expect(fillWithTopAndSample(ranking, 3)).toEqual([11, 10, 9]);
  });

  it('keeps exactly the number, each token once, on 24 x 24', () => {
    // A permutation: 35 and 576 have no common factor.
    const large = Uint32Array.from({ length: 576 }, (_, place) => (place * 35) % 576);
    for (let total = 0; total < 576; total++) {
      const kept = fillWithTopAndSample(large, total);
      expect(kept).toHaveLength(total);
      expect(new Set(kept).size).toBe(total);
    }
  });
});
