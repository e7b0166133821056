import {
  carryTokens,
  createTokens,
  GridRequiredError,
  planTokens,
  type Grid,
  type ReductionPlan,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { uniform, uniformEntry, type UniformOptions } from './uniform.js';

describe('conforms', () => {
  for (const { name, run } of reducerConformance({ create: uniform, needsGrid: true })) test(name, run);
});

const planOn = (grid: Grid, keepCount: number): Promise<ReductionPlan> =>
  planTokens(uniform({ keepCount }), createTokens({ length: grid.rows * grid.columns, grid }));

const cells = async (grid: Grid, keepCount: number): Promise<[row: number, column: number][]> =>
  Array.from((await planOn(grid, keepCount)).sources, (token) => [
    Math.floor(token / grid.columns),
    token % grid.columns,
  ]);

const square = { rows: 16, columns: 16 };

describe('uniform', () => {
  it('64 of 16 x 16: every other row and column', async () => {
    const odd = [1, 3, 5, 7, 9, 11, 13, 15];
    expect(await cells(square, 64)).toEqual(odd.flatMap((row) => odd.map((column) => [row, column])));
  });

  it('15 of 16 x 16: four rows of 3, 4, 4 and 4', async () => {
    // h = round(sqrt(15)) = 4; rows at (i + .5) * 4; 3 columns at (j + .5) * 16 / 3 = 2.7, 8, 13.3; 4 at 2,
    // 6, 10, 14.
    expect(await cells(square, 15)).toEqual([
      ...[2, 8, 13].map((column) => [2, column]),
      ...[6, 10, 14].flatMap((row) => [2, 6, 10, 14].map((column) => [row, column])),
    ]);
  });

  it('one of any grid: its middle', async () => {
    expect(await cells({ rows: 2, columns: 3 }, 1)).toEqual([[1, 1]]);
    expect(await cells({ rows: 5, columns: 7 }, 1)).toEqual([[2, 3]]);
  });

  it('spreads over both sides of a grid that is not square', async () => {
    // h = round(sqrt(4 * 2 / 8)) = 1 row, the one at floor(.5 * 2).
    expect(await cells({ rows: 2, columns: 8 }, 4)).toEqual([1, 3, 5, 7].map((column) => [1, column]));
    // 9 do not fit into one row of 8: ceil(9 / 8) = 2 rows of 4 and 5.
    expect(await cells({ rows: 2, columns: 8 }, 9)).toEqual([
      ...[1, 3, 5, 7].map((column) => [0, column]),
      ...[0, 2, 4, 5, 7].map((column) => [1, column]),
    ]);
    expect(await cells({ rows: 1, columns: 6 }, 3)).toEqual([1, 3, 5].map((column) => [0, column]));
    expect(await cells({ rows: 6, columns: 1 }, 3)).toEqual([1, 3, 5].map((row) => [row, 0]));
  });

  it('leaves a grid where every row kept as many', async () => {
    const tokens = createTokens({ length: 256, grid: square });
    expect(carryTokens(tokens, await planOn(square, 64)).grid).toEqual({ rows: 8, columns: 8 });
    expect(carryTokens(tokens, await planOn(square, 15)).grid).toBeUndefined();
  });

  it('keeps a quarter unless told otherwise', async () => {
    expect(uniformEntry.options.map(({ name, default: value }) => [name, value])).toEqual([
      ['keep', '0.25'],
      ['count', ''],
    ]);
    const tokens = createTokens({ length: 256, grid: square });
    expect(await planTokens(uniform(), tokens)).toEqual(await planOn(square, 64));
    expect(await planTokens(uniformEntry.create({ count: '15' }), tokens)).toEqual(await planOn(square, 15));
  });

  it('says what to do without a grid', async () => {
    const plan = planTokens(uniform(), createTokens({ length: 4 }));
    await expect(plan).rejects.toThrow(GridRequiredError);
    await expect(plan).rejects.toThrow('Put uniform before reducers that pick single tokens');
  });

  it('refuses the budget of version 1', () => {
    const options = { budget: { keepCount: 3 } } as UniformOptions;
    expect(() => uniform(options)).toThrow('option must be one of keepRatio, keepCount; received "budget"');
  });
});
