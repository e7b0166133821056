import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { matrixRank } from './matrix-rank.js';

const epsilon = 2 ** -23;

/** Turns every row of a matrix around one plane after another: no singular value changes. */
function turn(rows: readonly number[][], angles: readonly number[]): number[][] {
  const turned = rows.map((row) => [...row]);
  for (const [i, angle] of angles.entries()) {
    const [a, b] = [i % rows[0].length, (i + 1) % rows[0].length];
    if (a === b) continue;
    for (const row of turned) {
      const [x, y] = [row[a], row[b]];
      row[a] = Math.cos(angle) * x - Math.sin(angle) * y;
      row[b] = Math.sin(angle) * x + Math.cos(angle) * y;
    }
  }
  return turned;
}

function transpose(rows: readonly number[][]): number[][] {
  return rows[0].map((_, c) => rows.map((row) => row[c]));
}

describe('matrixRank', () => {
  it.each([
    [[[0, 0, 0]], 0],
    [[[2, 0, 0]], 1],
    [
      [
        [1, 2, 3],
        [2, 4, 6],
      ],
      1,
    ],
    [
      [
        [1, 2, 3],
        [2, 4, 6.01],
      ],
      2,
    ],
    [
      [
        [1, 0],
        [0, 1],
        [1, 1],
      ],
      2,
    ], // more rows than columns
    [
      [
        [1, 1],
        [1, 1],
        [1, 1],
      ],
      1,
    ],
    [
      [
        [0, 0],
        [0, 3],
      ],
      1,
    ],
  ])('of %j is %i', (rows, rank) => {
    expect(matrixRank(rows, rows[0].length)).toBe(rank);
  });

  it('counts what is above max(R, C) float32 roundings of the greatest', () => {
    expect(
      matrixRank(
        [
          [1, 0],
          [0, 2.01 * epsilon],
        ],
        2,
      ),
    ).toBe(2);
    expect(
      matrixRank(
        [
          [1, 0],
          [0, 1.99 * epsilon],
        ],
        2,
      ),
    ).toBe(1);
    expect(
      matrixRank(
        [
          [1, 0, 0, 0],
          [0, 3.99 * epsilon, 0, 0],
        ],
        4,
      ),
    ).toBe(1);
    expect(
      matrixRank(
        [
          [100, 0],
          [0, 199 * epsilon],
        ],
        2,
      ),
    ).toBe(1);
    expect(
      matrixRank(
        [
          [1, 0],
          [0, 0.5],
          [0, 2.99 * epsilon],
        ],
        2,
      ),
    ).toBe(2);
  });

  it('is the number of singular values that a matrix was made with, however it is turned', () => {
    const size = fc.integer({ min: 1, max: 6 });
    const angles = fc.array(fc.double({ min: -3, max: 3, noNaN: true }), { minLength: 20, maxLength: 20 });
    fc.assert(
      fc.property(size, size, fc.integer({ min: 0, max: 6 }), angles, angles, (r, c, wanted, left, right) => {
        const rank = Math.min(wanted, r, c);
        const diagonal = Array.from({ length: r }, (_, i) =>
          Array.from({ length: c }, (_value, j) => (i === j && i < rank ? 10 ** -i : 0)),
        );
        const rows = transpose(turn(transpose(turn(diagonal, left)), right));
        expect(matrixRank(rows, c)).toBe(rank);
        expect(matrixRank(transpose(rows), r)).toBe(rank);
      }),
    );
  });

  it('leaves the rows alone', () => {
    const rows = [Float64Array.of(1, 2), Float64Array.of(3, 5)];
    matrixRank(rows, 2);
    expect(rows).toEqual([Float64Array.of(1, 2), Float64Array.of(3, 5)]);
  });
});
