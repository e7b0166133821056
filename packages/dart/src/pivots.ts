/** What pivots keep: in which order they are asked, and what each takes. */
import { InvalidSignalError, topIndices, type Similarity } from '@foveate/core';
import { setOrder } from './set-order.js';

/** A visual token, or a token of the question behind the image. */
interface Pivot {
  readonly of: 'image' | 'question';
  /** Among the visual tokens, or those of the question. */
  readonly index: number;
}

/**
 * Pivots in the order in which the official code visits them, see {@link setOrder}.
 * @param image visual tokens, @param question tokens of the question, both by descending size of their keys
 * @param places [N] of the visual tokens in the prompt; the question begins behind the last
 */
export function inSetOrder(
  image: readonly number[],
  question: readonly number[],
  places: ArrayLike<number>,
): Pivot[] {
  const behind = places[places.length - 1] + 1;
  const byPlace = new Map<number, Pivot>([
    ...image.map((index): [number, Pivot] => [places[index], { of: 'image', index }]),
    ...question.map((index): [number, Pivot] => [behind + index, { of: 'question', index }]),
  ]);
  return setOrder([...byPlace.keys()]).flatMap((place) => byPlace.get(place) ?? []);
}

/**
 * The cosines of each pivot with every visual token: [pivots][N].
 * @param states [T, D] of the question's `length` tokens
 */
export async function cosinesOfPivots(
  pivots: readonly Pivot[],
  similar: Similarity,
  states: Float32Array,
  length: number,
): Promise<Float32Array[]> {
  const channels = states.length / length; // D
  if (!Number.isInteger(channels)) {
    throw new InvalidSignalError('questionStates', `has ${states.length} values, not D for ${length} tokens`);
  }
  const indices = (kind: Pivot['of']): number[] => pivots.filter(({ of }) => of === kind).map((p) => p.index);
  const rows = new Float32Array(indices('question').length * channels);
  for (const [row, token] of indices('question').entries()) {
    rows.set(states.subarray(token * channels, (token + 1) * channels), row * channels);
  }
  const [ofImage, ofQuestion] = await Promise.all([
    similar.cosines(Uint32Array.from(indices('image'))),
    rows.length === 0 ? rows : similar.cosines(rows),
  ]);
  const tokens = ofImage.length / indices('image').length; // N
  const taken = { image: 0, question: 0 };
  return pivots.map(({ of }) => {
    const start = taken[of]++ * tokens;
    return (of === 'image' ? ofImage : ofQuestion).subarray(start, start + tokens);
  });
}

/**
 * The image pivots, and for each pivot in turn as many as its share of the visual tokens least similar to it
 * that nobody took yet; fewer where no more are left.
 * @param cosines [pivots][N]
 */
export function takeLeastSimilar(
  pivots: readonly Pivot[],
  shares: readonly number[],
  cosines: readonly Float32Array[],
): Uint32Array {
  const length = cosines[0].length;
  const kept = new Set(pivots.filter(({ of }) => of === 'image').map(({ index }) => index));
  for (const [turn, ofPivot] of cosines.entries()) {
    const count = Math.min(shares[turn], length - kept.size);
    if (count === 0) continue;
    const dissimilar = Float64Array.from(ofPivot, (cosine, token) => (kept.has(token) ? -Infinity : -cosine));
    for (const token of topIndices(dissimilar, count)) kept.add(token);
  }
  return Uint32Array.from(kept);
}
