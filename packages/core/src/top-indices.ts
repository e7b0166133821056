/**
 * The `count` indices of the highest scores, in descending order of score; ties to the lower index.
 * @param scores finite numbers
 * @param count at most scores.length
 */
export function topIndices(scores: ArrayLike<number>, count: number): Uint32Array {
  const order = Uint32Array.from({ length: scores.length }, (_, index) => index);
  return order.sort((a, b) => scores[b] - scores[a] || a - b).slice(0, count);
}
