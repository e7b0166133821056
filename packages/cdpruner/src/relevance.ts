/** How relevant each token is to the question. */
import type { Similarity } from '@foveate/core';

/** Below this spread the cosines of all tokens are the same but for the rounding of float32. */
const ROUNDING = 1e-6;

/** One number a token. */
export interface Relevance {
  /** [N] positive */
  readonly values: Float64Array;
  /** Which relevance this is. */
  readonly warning: string;
}

/**
 * By the language model: the mean cosine of a token with the embeddings of the prompt's text. In that space
 * alike means relevant.
 * @param similar by the projected features [N, D]
 * @param text [T, D]
 */
export async function relevanceByEmbeddings(
  similar: Similarity,
  text: Float32Array,
  length: number,
): Promise<Relevance> {
  const values = scaledMeans(await similar.cosines(text), length, 1);
  const source = 'the language model’s embeddings of the prompt, not by CLIP as in the official code';
  return values ? { values, warning: `relevance is by ${source}` } : noRelevance(length, source);
}

/**
 * By CLIP, as the official code has it: the mean over the question's segments of MINUS the cosine, since the
 * patches that are least like a text in CLIP's space are those that it is about.
 * @param seen by CLIP's embeddings of the tokens [N, D]
 * @param question [T, D]
 */
export async function relevanceByClip(
  seen: Similarity,
  question: Float32Array,
  length: number,
): Promise<Relevance> {
  const values = scaledMeans(await seen.cosines(question), length, -1);
  const source = 'CLIP’s embeddings of the question';
  return values ? { values, warning: `relevance is by ${source}` } : noRelevance(length, source);
}

/** @param equalBy by what all tokens are equally relevant, where something was asked */
export function noRelevance(length: number, equalBy?: string): Relevance {
  const cause = equalBy === undefined ? '' : `all tokens are equally relevant by ${equalBy}: `;
  return {
    values: new Float64Array(length).fill(1),
    warning: `${cause}relevance is left out, and diversity alone decides`,
  };
}

/**
 * The mean over the rows of a text, scaled to run from 0 to 1. The official code adds 1e-6 above the fraction
 * alone, so that the least relevant token keeps a trace, and the most relevant one gets a trace more than 1.
 * @param cosines [T, N]
 * @param sign -1 where less alike means more relevant
 * @returns [N] positive; undefined where all tokens are the same and there is nothing to scale by
 */
function scaledMeans(cosines: Float32Array, length: number, sign: 1 | -1): Float64Array | undefined {
  const rows = cosines.length / length;
  const means = new Float64Array(length);
  for (let at = 0; at < cosines.length; at++) means[at % length] += (sign * cosines[at]) / rows;
  const lowest = means.reduce((left, right) => Math.min(left, right));
  const spread = means.reduce((left, right) => Math.max(left, right)) - lowest;
  return spread > ROUNDING ? means.map((mean) => (mean - lowest + 1e-6) / spread) : undefined;
}
