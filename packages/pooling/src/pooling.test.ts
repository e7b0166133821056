import {
  applyPlan,
  carryTokens,
  createTokens,
  GridRequiredError,
  planTokens,
  type Grid,
  type ReductionPlan,
  type TokenReducer,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { pooling, poolingEntry, type PoolingOptions } from './pooling.js';

const kinds: PoolingOptions[] = [
  { window: '2x2', mode: 'mean' },
  { window: '2x2', mode: 'max' },
  { window: '1x4', mode: 'mean' },
];

for (const options of kinds) {
  describe(`conforms: ${options.window} ${options.mode}`, () => {
    const create = (): TokenReducer => pooling(options);
    for (const { name, run } of reducerConformance({
      create,
      budgets: [],
      needsGrid: true,
      selects: false,
    })) {
      test(name, run);
    }
  });
}

const planOn = (grid: Grid, options?: PoolingOptions): Promise<ReductionPlan> =>
  planTokens(pooling(options), createTokens({ length: grid.rows * grid.columns, grid }));

//  0  1  2        one channel, 3 x 3
//  3  4  5
//  6  7 -8
const features = Float32Array.of(0, 1, 2, 3, 4, 5, 6, 7, -8);
const grid = { rows: 3, columns: 3 };

describe('pooling', () => {
  it('2x2 mean: windows at the end of the grid are smaller', async () => {
    const plan = await planOn(grid);
    expect([...applyPlan(plan, features)]).toEqual([2, 3.5, 6.5, -8]); // (0+1+3+4)/4, (2+5)/2, (6+7)/2, -8
    expect([...plan.anchors]).toEqual([0, 2, 6, 8]);
    expect(plan.grid).toEqual({ rows: 2, columns: 2 });
  });

  it('2x2 max: channel by channel', async () => {
    expect([...applyPlan(await planOn(grid, { mode: 'max' }), features)]).toEqual([4, 5, 7, -8]);
    // [2 x 2 tokens, 2 channels]: the maxima come from different tokens.
    const plan = await planOn({ rows: 2, columns: 2 }, { mode: 'max' });
    expect([...applyPlan(plan, Float32Array.of(1, -1, 5, -9, 2, -3, 0, -7))]).toEqual([5, -1]);
    expect([...plan.anchors]).toEqual([0]);
  });

  it('1x4 mean: along a row, never across', async () => {
    const plan = await planOn({ rows: 2, columns: 5 }, { window: '1x4' });
    const applied = applyPlan(plan, Float32Array.of(1, 2, 3, 4, 100, 5, 6, 7, 8, 200));
    expect([...applied]).toEqual([2.5, 100, 6.5, 200]);
    expect([...plan.anchors]).toEqual([0, 4, 5, 9]);
    expect(plan.grid).toEqual({ rows: 2, columns: 2 });
  });

  it('keeps a quarter of 24 x 24', async () => {
    for (const options of kinds)
      expect((await planOn({ rows: 24, columns: 24 }, options)).outputLength).toBe(144);
  });

  it('of pooled tokens is pooling of the larger window', async () => {
    const length = 16;
    const tokens = createTokens({ length, grid: { rows: 4, columns: 4 } });
    const once = await planTokens(pooling(), tokens);
    const twice = await planTokens(pooling(), carryTokens(tokens, once));
    const values = Float32Array.from({ length }, (_, i) => i);
    expect([...applyPlan(twice, applyPlan(once, values))]).toEqual([7.5]);
  });

  it('is 2x2 mean unless told otherwise, and refuses other words', () => {
    expect(poolingEntry.options.map(({ option, default: value }) => [option, value])).toEqual([
      ['window', '2x2'],
      ['mode', 'mean'],
    ]);
    expect(() => pooling({ window: '3x3' as '2x2' })).toThrow("window must be '2x2' or '1x4'");
    expect(() => pooling({ mode: 'sum' as 'mean' })).toThrow("mode must be 'mean' or 'max'");
    expect(() => pooling({ keepRatio: 0.25 } as PoolingOptions)).toThrow(
      'option must be one of window, mode',
    );
  });

  it('says what to do without a grid', async () => {
    const plan = planTokens(pooling(), createTokens({ length: 4 }));
    await expect(plan).rejects.toThrow(GridRequiredError);
    await expect(plan).rejects.toThrow('Put pooling before reducers that pick single tokens');
  });

  it('is made from text', async () => {
    const reducer = poolingEntry.create({ window: '1x4', mode: 'max' });
    expect(reducer.name).toBe(poolingEntry.name);
    const row = createTokens({ length: 4, grid: { rows: 1, columns: 4 } });
    expect([...applyPlan(await planTokens(reducer, row), Float32Array.of(1, 7, 3, 5))]).toEqual([7]);
  });
});
