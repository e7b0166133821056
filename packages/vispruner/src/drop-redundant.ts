/**
 * How VisPruner makes a pool of tokens diverse. Source: the official code, Theia-4869/VisPruner, aefa01a.
 */
import { topIndices } from '@foveate/core';

/** So many are dropped at once, at most. */
const STEP = 8;

/**
 * The `count` places of a pool that are left when the most redundant were dropped, at most eight a round. A
 * round pairs places that are even in the pool as it is then with those that are odd, and drops of the even
 * ones those with the highest similarity to any odd one, ties in the pool's order. The even ones that stay
 * go on in descending order of that similarity, in front of the odd ones: this decides who is paired next.
 * A pool of an odd number has one even place more.
 * @param length of the pool
 * @param count in [1, length]
 * @param similarity of two places of the pool as it came in
 */
export function dropRedundant(
  length: number,
  count: number,
  similarity: (one: number, other: number) => number,
): number[] {
  let pool = Array.from({ length }, (_, place) => place);
  while (pool.length > count) {
    const even = pool.filter((_, place) => place % 2 === 0);
    const odd = pool.filter((_, place) => place % 2 === 1);
    const redundancy = even.map((one) =>
      odd.reduce((highest, other) => Math.max(highest, similarity(one, other)), -Infinity),
    );
    const descending = Array.from(topIndices(redundancy, even.length), (place) => even[place]);
    const dropped = Math.min(STEP, pool.length - count); // or all of the even ones, where they are fewer
    pool = [...descending.slice(dropped), ...odd];
  }
  return pool;
}
