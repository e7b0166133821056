/**
 * How VisPruner makes a pool of tokens diverse. Source: the official code, Theia-4869/VisPruner, aefa01a.
 */
import { topIndices } from '@foveate/core';

/** So many are dropped at once, at most. */
const STEP = 8;

/**
 * The `count` tokens of a pool that are left when the most redundant were dropped, at most eight a round. A
 * round compares the tokens at even places of the pool as it is then with those at odd places, and drops of
 * the even ones those with the highest cosine to any odd one, ties in the pool's order. The even ones that
 * stay go on in descending order of that cosine, in front of the odd ones: this decides who is compared next.
 * A pool of an odd number has one even place more.
 * @param pool tokens in the order in which they are first compared
 * @param count in [1, pool.length]
 * @param cosinesOf the cosines of a token of the pool with all tokens [N]
 */
export function dropRedundant(
  pool: readonly number[],
  count: number,
  cosinesOf: (token: number) => Float32Array,
): number[] {
  let left = [...pool];
  while (left.length > count) {
    const even = left.filter((_, place) => place % 2 === 0);
    const odd = left.filter((_, place) => place % 2 === 1);
    const redundancy = even.map((token) => highest(cosinesOf(token), odd));
    const descending = Array.from(topIndices(redundancy, even.length), (place) => even[place]);
    const dropped = Math.min(STEP, left.length - count); // or all of the even ones, where they are fewer
    left = [...descending.slice(dropped), ...odd];
  }
  return left;
}

/** The highest of the cosines [N] with `others`, of which there is one at least. */
function highest(cosines: Float32Array, others: readonly number[]): number {
  let found = -Infinity;
  for (const other of others) if (cosines[other] > found) found = cosines[other];
  return found;
}
