/**
 * The `count` indices of the highest scores, in descending order of score; ties to the lower index.
 * @param scores numbers, -Infinity allowed, none NaN
 * @param count in [1, scores.length]
 */
export function topIndices(scores: ArrayLike<number>, count: number): Uint32Array {
  return topIndicesAscending(scores, count).sort((a, b) => scores[b] - scores[a] || a - b);
}

/** The same indices in ascending order, which takes no sorting of their own. */
export function topIndicesAscending(scores: ArrayLike<number>, count: number): Uint32Array {
  // Numbers sort natively, indices by their scores do not: so find the lowest score kept first, then order the kept alone.
  const sorted = new Float64Array(scores).sort();
  const lowest = sorted[sorted.length - count];
  let tiesKept = count - (sorted.length - (sorted.lastIndexOf(lowest) + 1));
  const kept = new Uint32Array(count);
  let filled = 0;
  for (let i = 0; i < scores.length; i++) {
    if (scores[i] > lowest || (scores[i] === lowest && tiesKept-- > 0)) kept[filled++] = i;
  }
  return kept;
}
