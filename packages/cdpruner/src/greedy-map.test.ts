import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { greedyMap } from './greedy-map.js';

type Matrix = readonly (readonly number[])[];

/** By elimination with the largest pivots. */
function determinant(matrix: Matrix): number {
  const rows = matrix.map((row) => [...row]);
  let product = 1;
  for (let k = 0; k < rows.length; k++) {
    const pivot = rows.findIndex(
      (row, i) =>
        i >= k && Math.abs(row[k]) === Math.max(...rows.slice(k).map((other) => Math.abs(other[k]))),
    );
    if (rows[pivot][k] === 0) return 0;
    if (pivot !== k) product = -product;
    [rows[k], rows[pivot]] = [rows[pivot], rows[k]];
    product *= rows[k][k];
    for (const row of rows.slice(k + 1)) {
      const share = row[k] / rows[k][k];
      for (let j = k; j < row.length; j++) row[j] -= share * rows[k][j];
    }
  }
  return product;
}

/** Up to 6 rows of 8 numbers: [N][N] cosines, relevance [N], and how many to keep. */
const problems = fc
  .array(fc.noBias(fc.array(fc.integer({ min: -100, max: 100 }), { minLength: 8, maxLength: 8 })), {
    minLength: 2,
    maxLength: 6,
  })
  .map((rows) => rows.map(([first, ...others]) => [first + 0.5, ...others])) // none of norm 0
  .chain((rows) =>
    fc.record({
      cosines: fc.constant(
        rows.map((a) =>
          rows.map(
            (b) => a.reduce((sum, value, d) => sum + value * b[d], 0) / (Math.hypot(...a) * Math.hypot(...b)),
          ),
        ),
      ),
      relevance: fc.array(fc.integer({ min: 1, max: 100 }), {
        minLength: rows.length,
        maxLength: rows.length,
      }),
      count: fc.integer({ min: 1, max: rows.length }),
    }),
  );

function float32(matrix: Matrix): Float32Array {
  return Float32Array.from(matrix.flat());
}

/** The token of the largest determinant with the picks before it; samples where rounding decides are left out. */
function largest(kernel: Matrix, picked: readonly number[]): number {
  const determinants = kernel.map((_, j) => {
    const set = [...picked, j];
    return picked.includes(j) ? -Infinity : determinant(set.map((a) => set.map((b) => kernel[a][b])));
  });
  const highest = Math.max(...determinants);
  const clear = (one: number): boolean => Math.abs(one - highest) < 1e-12 * highest || one < 0.999 * highest;
  fc.pre(determinants.every(clear));
  return determinants.findIndex((one) => Math.abs(one - highest) < 1e-12 * highest);
}

describe('greedyMap', () => {
  it.each([
    ['relevance', true],
    ['none', false],
  ])('picks the tokens of the largest determinant one by one, with %s', (_, weighed) => {
    fc.assert(
      fc.property(problems, ({ cosines, relevance: given, count }) => {
        const relevance = weighed ? given : given.map(() => 1);
        const kernel = cosines.map((row, i) => row.map((value, j) => relevance[i] * value * relevance[j]));
        const expected: number[] = [];
        const volume = (set: readonly number[]): number =>
          determinant(set.map((a) => set.map((b) => cosines[a][b])));
        while (expected.length < count) {
          expected.push(largest(kernel, expected));
          fc.pre(volume(expected) > 1e-2 * volume(expected.slice(0, -1))); // far from where nothing is left
        }
        const { kept, byKernel } = greedyMap(float32(cosines), Float64Array.from(relevance), count);
        expect([...kept]).toEqual(expected);
        expect(byKernel).toBe(count);
      }),
      { numRuns: 200 },
    );
  });

  it('never takes a token twice, whatever the rank', () => {
    const any = fc.integer({ min: 1, max: 12 }).chain((length) =>
      fc.record({
        values: fc.array(fc.integer({ min: -2, max: 2 }), { minLength: 2 * length, maxLength: 2 * length }),
        count: fc.integer({ min: 1, max: length }),
      }),
    );
    fc.assert(
      fc.property(any, ({ values, count }) => {
        const length = values.length / 2;
        const rows = Array.from({ length }, (_, i) => values.slice(2 * i, 2 * i + 2));
        const norm = ([x, y]: number[]): number => Math.hypot(x, y) || 1;
        const cosines = rows.map((a) => rows.map((b) => (a[0] * b[0] + a[1] * b[1]) / (norm(a) * norm(b))));
        const { kept, byKernel } = greedyMap(float32(cosines), new Float64Array(length).fill(1), count);
        expect(new Set(kept).size).toBe(count);
        expect(byKernel).toBeLessThanOrEqual(2);
      }),
    );
  });

  it('of equal tokens picks the lower first, however their squares were rounded', () => {
    const cosines = Float32Array.of(0.9999999, 0, 0, 0, 1, 0, 0, 0, 1.0000001);
    expect([...greedyMap(cosines, new Float64Array(3).fill(1), 2).kept]).toEqual([0, 1]);
  });

  it('does not choose by what rounding left', () => {
    // Rows of two channels: behind two picks what is left of any is rounding, of either sign.
    const degrees = [0, 90, 10, 20, 30, 40, 50, 60, 70, 80];
    const cosines = degrees.map((a) => degrees.map((b) => Math.cos(((a - b) * Math.PI) / 180)));
    const { kept, byKernel } = greedyMap(float32(cosines), new Float64Array(10).fill(1), 3);
    expect([...kept]).toEqual([0, 1, kept[2]]);
    expect(byKernel).toBe(2);
    expect([40, 50]).toContain(degrees[kept[2]]); // the middle, 40° from both
  });
});
