/** The greedy choice of the tokens that cover all others. */

/**
 * A token is covered as far as it is like its likest among those picked, and not at all below a cosine of 0.
 * Each pick is the token whose weight times the coverage that it adds, over all tokens, is the highest.
 *
 * What a token would add only shrinks as others are picked. So what it added when last looked at is a bound,
 * to the bit, since float sums of smaller terms in the same order are not larger; and most tokens need not be
 * looked at again.
 * @param cosines [N, N] of every token to every other
 * @param weights [N] not negative
 * @param count in [1, N]
 * @returns [count] distinct tokens in the order in which they were picked; ties go to the lower index
 */
export function bestCovering(cosines: Float32Array, weights: Float64Array, count: number): Uint32Array {
  const { length } = weights;
  const picked = new Uint32Array(count);
  const coverage = new Float64Array(length); // [N] so far, of each token
  const bounds = new Float64Array(length).fill(Infinity); // [N] -Infinity once a token is picked
  const gainOf = (token: number): number => {
    let sum = 0;
    for (let i = 0, at = token * length; i < length; i++, at++) {
      if (cosines[at] > coverage[i]) sum += cosines[at] - coverage[i];
    }
    return weights[token] * sum;
  };
  for (let m = 0; m < count; m++) {
    const pick = bestOf(bounds, gainOf);
    picked[m] = pick;
    bounds[pick] = -Infinity;
    for (let i = 0, at = pick * length; i < length; i++, at++) {
      if (cosines[at] > coverage[i]) coverage[i] = cosines[at];
    }
  }
  return picked;
}

/** The token of the highest gain, the first of equal ones; brings the bounds of those looked at up to date. */
function bestOf(bounds: Float64Array, gainOf: (token: number) => number): number {
  let best = 0;
  for (let token = 1; token < bounds.length; token++) if (bounds[token] > bounds[best]) best = token;
  bounds[best] = gainOf(best); // likely to be the best, so that the others are compared with it
  for (let token = 0; token < bounds.length; token++) {
    if (token === best || !goesBefore(token, best, bounds)) continue;
    bounds[token] = gainOf(token);
    if (goesBefore(token, best, bounds)) best = token;
  }
  return best;
}

function goesBefore(token: number, other: number, values: Float64Array): boolean {
  return values[token] > values[other] || (values[token] === values[other] && token < other);
}
