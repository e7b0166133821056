import { describe, expect, it } from 'vitest';
import { dropRedundant } from './drop-redundant.js';

/**
 * Cosines of the tokens 0 to 3, row by row, that tell which places were compared: 0 and 1 are alike the most.
 */
const cosines = [
  [1, 0.9, 0.1, 0.2],
  [0.9, 1, 0.4, 0.3],
  [0.1, 0.4, 1, 0.8],
  [0.2, 0.3, 0.8, 1],
];
const cosinesOf = (token: number): Float32Array => Float32Array.from(cosines[token]);

describe('dropRedundant', () => {
  it('drops of the even places what is most like an odd one', () => {
    // Of 0 and 2, with 1 and 3: .9 and .8.
    expect(dropRedundant([0, 1, 2, 3], 3, cosinesOf)).toEqual([2, 1, 3]);
    // Of 3 and 1, with 2 and 0: .8 and .9.
    expect(dropRedundant([3, 2, 1, 0], 3, cosinesOf)).toEqual([3, 2, 0]);
  });

  it('takes all that a round may drop at once', () => {
    expect(dropRedundant([0, 1, 2, 3], 2, cosinesOf)).toEqual([1, 3]);
  });

  it('drops no odd place: where too few are even, it takes another round', () => {
    // 0 and 2 are dropped, then 1, which stands before 3.
    expect(dropRedundant([0, 1, 2, 3], 1, cosinesOf)).toEqual([3]);
  });

  it('has one even place more in an odd pool', () => {
    // Of 0 and 3, with 1 alone: .9 and .3.
    expect(dropRedundant([0, 1, 3], 2, cosinesOf)).toEqual([3, 1]);
    expect(dropRedundant([0, 1, 3], 1, cosinesOf)).toEqual([1]);
    expect(dropRedundant([2], 1, cosinesOf)).toEqual([2]);
  });

  it('drops eight a round, and puts the even ones that stay in front by descending similarity', () => {
    // 20 tokens; an even one is like all odd ones as much as its number, 0 the least. The first round drops 18,
    // 16, ... 4 and leaves 2, 0 and the odd ones. In the second 2, 1, 5, 9, 13, 17 are at even places: 2 is as
    // like 0 as that is, 0.02, and the odd ones are like each other by 0.5 in all pairs.
    const twenty = Array.from({ length: 20 }, (_, token) => token);
    const similarity = (one: number, other: number): number => {
      const even = [one, other].filter((token) => token % 2 === 0);
      return even.length === 0 ? 0.5 : Math.max(...even) / 100;
    };
    const row = (token: number): Float32Array =>
      Float32Array.from(twenty, (other) => similarity(token, other));
    expect(dropRedundant(twenty, 12, row)).toEqual([2, 0, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
    // Of 2, 1, 5, 9, 13, 17 with 0, 3, 7, ...: ties of .5 go in the pool's order.
    expect(dropRedundant(twenty, 10, row)).toEqual([9, 13, 17, 2, 0, 3, 7, 11, 15, 19]);
  });

  it('leaves the pool alone where nothing is too many', () => {
    expect(dropRedundant([3, 0, 2], 3, cosinesOf)).toEqual([3, 0, 2]);
  });
});
