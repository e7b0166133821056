/** Connectors that fold squares of patches into one token each (pixel shuffle, 2 x 2 merger). */
import { mergePlan, type Grid, type ReductionPlan } from '@foveate/core';

/**
 * From patches to tokens, row after row of both: token (r, c) is made of the patches in its square of
 * `side` x `side`.
 * @param tokens the grid of the tokens
 */
export function foldSquares({ rows, columns }: Grid, side: number): ReductionPlan {
  const inRow = columns * side;
  return foldInto(rows * columns, side ** 2, (token, patch) => {
    const row = Math.floor(token / columns) * side + Math.floor(patch / side);
    return row * inRow + (token % columns) * side + (patch % side);
  });
}

/**
 * From patches to tokens of as many patches each.
 * @param patchOf the number, in the order of the encoder's signals, of a token's n-th patch
 */
export function foldInto(
  tokens: number,
  patchesPerToken: number,
  patchOf: (token: number, patch: number) => number,
): ReductionPlan {
  const weights = new Array<number>(patchesPerToken).fill(1 / patchesPerToken);
  const outputs = Array.from({ length: tokens }, (_, token) => ({
    sources: weights.map((_weight, patch) => patchOf(token, patch)),
    weights,
  }));
  return mergePlan(outputs, tokens * patchesPerToken);
}
