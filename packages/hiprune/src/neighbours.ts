/** Which tokens are the four neighbours of a token in a grid. */
import type { Grid } from '@foveate/core';

/** Left, right, above, below: those that the grid has. */
export function gridNeighbours(token: number, { rows, columns }: Grid): number[] {
  const column = token % columns;
  return [
    ...(column > 0 ? [token - 1] : []),
    ...(column + 1 < columns ? [token + 1] : []),
    ...(token >= columns ? [token - columns] : []),
    ...(token + columns < rows * columns ? [token + columns] : []),
  ];
}

/**
 * As the official code counts them, for 24 columns: each index clamped to the first and the last token, so
 * that beside the last column stands the first of the next row.
 */
export function clampedNeighbours(token: number, { rows, columns }: Grid): number[] {
  const last = rows * columns - 1;
  return [token - 1, token + 1, token - columns, token + columns].map((index) =>
    Math.min(Math.max(index, 0), last),
  );
}
