/** Which tokens of the question rate the visual tokens, and how. */
import { matrixRank } from './matrix-rank.js';

/**
 * Tokens of the question whose relevance is above the mean; all where none is, as where the question is one
 * token.
 * @param relevance [T]
 */
export function chooseRaters(relevance: Float32Array): { raters: number[]; warnings: string[] } {
  const mean = relevance.reduce((sum, value) => sum + value, 0) / relevance.length;
  const raters = Array.from(relevance.keys()).filter((token) => relevance[token] > mean);
  if (raters.length > 0) return { raters, warnings: [] };
  const warning = `no token of the question is more relevant to the image than the others: all ${relevance.length} rate`;
  return { raters: Array.from(relevance.keys()), warnings: [warning] };
}

/**
 * What the raters pay to each visual token, on average.
 * @param attention [N, T]
 * @returns [N]
 */
export function scoreTokens(
  attention: Float32Array,
  raters: readonly number[],
  length: number,
): Float64Array {
  const width = attention.length / length; // T
  return Float64Array.from({ length }, (_, token) => {
    const sum = raters.reduce((total, rater) => total + attention[token * width + rater], 0);
    return sum / raters.length;
  });
}

/** The rank of what the raters pay, [raters, N]: how much of it is not said twice. */
export function attentionRank(attention: Float32Array, raters: readonly number[], length: number): number {
  const width = attention.length / length; // T
  const rows = raters.map((rater) =>
    Float64Array.from({ length }, (_, token) => attention[token * width + rater]),
  );
  return matrixRank(rows, length);
}
