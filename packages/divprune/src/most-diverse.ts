/** The greedy max-min choice: each pick is the token that is farthest from its nearest among those picked. */

/**
 * Distances are 1 - cosine, so that the farthest is that of the lowest cosine.
 * @param cosines [N, N] of every token to every other
 * @param count in [1, N]
 * @returns [count] distinct tokens in the order in which they were picked; ties go to the lower index
 */
export function mostDiverse(cosines: Float32Array, length: number, count: number): Uint32Array {
  const picked = new Uint32Array(count);
  // [N] the cosine of each token to its nearest among those picked
  const closeness = new Float64Array(length).fill(-Infinity);
  let pick = lowestOf(closenessToOthers(cosines, length));
  for (let m = 0; ; m++) {
    picked[m] = pick;
    if (m === count - 1) return picked;
    for (let j = 0, at = pick * length; j < length; j++, at++) {
      if (cosines[at] > closeness[j]) closeness[j] = cosines[at];
    }
    closeness[pick] = Infinity; // never again, though it may have twins that are as near
    pick = lowestOf(closeness);
  }
}

/**
 * [N] the cosine of each token to its nearest other. Half of the matrix is read, so that two tokens that are
 * each other's nearest have the same, however the product was rounded.
 */
function closenessToOthers(cosines: Float32Array, length: number): Float64Array {
  const closeness = new Float64Array(length).fill(-Infinity);
  for (let i = 0; i < length; i++) {
    for (let j = i + 1; j < length; j++) {
      const cosine = cosines[i * length + j];
      if (cosine > closeness[i]) closeness[i] = cosine;
      if (cosine > closeness[j]) closeness[j] = cosine;
    }
  }
  return closeness;
}

/** Index of the lowest value; the first of equal ones. */
function lowestOf(values: Float64Array): number {
  let lowest = 0;
  for (let i = 1; i < values.length; i++) if (values[i] < values[lowest]) lowest = i;
  return lowest;
}
