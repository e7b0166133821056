/** Up to one in so many, inserting the highest one by one takes less time than sorting all. */
const FEW = 8;
/** And always among no more than these. */
const SHORT = 64;

/**
 * The `count` indices of the highest scores, in descending order of score; ties to the lower index.
 * @param scores numbers, -Infinity allowed, none NaN
 * @param count in [1, scores.length]
 */
export function topIndices(scores: ArrayLike<number>, count: number): Uint32Array {
  if (count * FEW <= scores.length || scores.length <= SHORT) return insertTop(scores, count);
  return topIndicesAscending(scores, count).sort((a, b) => scores[b] - scores[a] || a - b);
}

/** The same indices in ascending order, which takes no sorting of their own. */
export function topIndicesAscending(scores: ArrayLike<number>, count: number): Uint32Array {
  // Numbers sort natively, indices by their scores do not: so find the lowest score kept first, then order
  // the kept alone.
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

/**
 * The highest so far, in order: each score is compared with the lowest of them first, and most go no further.
 */
function insertTop(scores: ArrayLike<number>, count: number): Uint32Array {
  const top = new Uint32Array(count);
  let filled = 0;
  for (let i = 0; i < scores.length; i++) {
    const score = scores[i];
    if (filled === count && score <= scores[top[count - 1]]) continue;
    let at = filled < count ? filled++ : count - 1;
    for (; at > 0 && scores[top[at - 1]] < score; at--) top[at] = top[at - 1];
    top[at] = i;
  }
  return top;
}
