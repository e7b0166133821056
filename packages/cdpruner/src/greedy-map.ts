/** The likeliest set of a determinantal point process, found greedily, and what follows where it ends. */

/** What is left of a row of length 1, squared: up to this it is the rounding of float32 cosines. */
const ROUNDING = 1e-5;

/** Tokens in the order in which they were picked. */
export interface GreedyChoice {
  /** [count] distinct */
  readonly kept: Uint32Array;
  /** How many of them the kernel chose; those behind are the farthest from what was kept before them. */
  readonly byKernel: number;
}

/**
 * Picks `count` tokens, each the one that most raises the determinant of the kernel relevance[i] *
 * cosines[i, j] * relevance[j] over what is picked (the fast greedy MAP inference of Chen et al., 2018). Ties
 * go to the lower index.
 *
 * Relevance scales rows and columns of the kernel, and so those of its Cholesky factor: the factor of the
 * cosines is enough, and relevance weighs the choice alone. What is left of a token is the squared distance
 * of its row, of length 1, from the span of those picked. Behind as many picks as the rows have channels
 * nothing is left of any, and the determinant is 0 with each; the official code divides rounding by rounding
 * there.
 * @param cosines [N, N]
 * @param relevance [N] positive
 * @param count in [1, N]
 */
export function greedyMap(cosines: Float32Array, relevance: Float64Array, count: number): GreedyChoice {
  const { length } = relevance;
  const kept = new Uint32Array(count);
  const factor = new Float64Array(count * length); // [count, N], a row a pick
  // [N] 1 to begin with: rounding must not decide among equals. A row of norm 0 spans nothing.
  const left = Float64Array.from(relevance, (_, token) => Math.round(cosines[token * length + token]));
  let m = 0;
  for (; m < count; m++) {
    const pick = mostRaising(left, relevance);
    if (pick === undefined) break;
    kept[m] = pick;
    addRow(factor, m, cosines, pick, Math.sqrt(left[pick]));
    for (let j = 0, at = m * length; j < length; j++, at++) left[j] -= factor[at] * factor[at];
    left[pick] = 0;
  }
  fillWithFarthest(kept, m, cosines, relevance);
  return { kept, byKernel: m };
}

/** Row m of the factor [count, N]: of the pick's cosines what the rows before it do not hold. */
function addRow(factor: Float64Array, m: number, cosines: Float32Array, pick: number, norm: number): void {
  const length = Math.sqrt(cosines.length);
  const start = m * length;
  for (let j = 0; j < length; j++) factor[start + j] = cosines[pick * length + j];
  for (let row = 0; row < start; row += length) {
    const share = factor[row + pick];
    for (let j = 0; j < length; j++) factor[start + j] -= share * factor[row + j];
  }
  for (let j = 0; j < length; j++) factor[start + j] /= norm;
}

/** The token by which the determinant grows most; undefined where it would be 0 with any. */
function mostRaising(left: Float64Array, relevance: Float64Array): number | undefined {
  let best: number | undefined;
  let highest = 0;
  for (let j = 0; j < left.length; j++) {
    const gain = relevance[j] * relevance[j] * left[j];
    if (left[j] <= ROUNDING || gain <= highest) continue;
    best = j;
    highest = gain;
  }
  return best;
}

/**
 * Fills kept[filled...] with the tokens whose relevance times their distance from the nearest of those kept,
 * 1 - cosine, is the highest, one after the other.
 */
function fillWithFarthest(
  kept: Uint32Array,
  filled: number,
  cosines: Float32Array,
  relevance: Float64Array,
): void {
  const { length } = relevance;
  if (filled === kept.length) return;
  const closeness = new Float64Array(length).fill(-1); // [N] to the nearest of those kept
  const approach = (pick: number): void => {
    for (let j = 0, at = pick * length; j < length; j++, at++) {
      if (cosines[at] > closeness[j]) closeness[j] = cosines[at];
    }
    closeness[pick] = Infinity; // never again
  };
  for (let m = 0; m < kept.length; m++) {
    if (m >= filled) kept[m] = farthest(closeness, relevance);
    approach(kept[m]);
  }
}

/** The token of the highest relevance times distance, the first of equal ones. */
function farthest(closeness: Float64Array, relevance: Float64Array): number {
  let best = 0;
  let highest = -Infinity;
  for (let j = 0; j < closeness.length; j++) {
    const score = relevance[j] * (1 - closeness[j]);
    if (score <= highest) continue;
    best = j;
    highest = score;
  }
  return best;
}
