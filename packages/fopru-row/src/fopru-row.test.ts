import {
  carryTokens,
  createVisualTokens,
  GridRequiredError,
  selectionPlan,
  type Budget,
  type Grid,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { createFopruRow, fopruRowDefaults, type FopruRowOptions } from './fopru-row.js';

/** Rows times columns, by the words of the method: a ratio of the rows, or the rows that a count holds; at least one. */
function expectedLength(budget: Budget, { length, grid }: { length: number; grid: Grid }): number {
  if ('keepRatio' in budget)
    return Math.max(1, Math.floor(grid.rows * budget.keepRatio + 1e-9)) * grid.columns;
  if (budget.keepCount >= length) return length;
  return Math.max(1, Math.floor(budget.keepCount / grid.columns)) * grid.columns;
}

for (const significance of ['variance', 'received'] as const) {
  describe(`conforms: ${significance}`, () => {
    const create = (options: FopruRowOptions): ReturnType<typeof createFopruRow> =>
      createFopruRow({ ...options, significance });
    const cases = reducerConformance({ create, ranks: 'rows', needsGrid: true, expectedLength });
    for (const { name, run } of cases) test(name, run);
  });
}

describe('conforms: by mass unless told otherwise', () => {
  const create = ({ budget = { attentionMass: 0.7 } }: FopruRowOptions): ReturnType<typeof createFopruRow> =>
    createFopruRow({ budget });
  const cases = reducerConformance({ create, ranks: 'rows', needsGrid: true, expectedLength });
  for (const { name, run } of cases) test(name, run);
});

// Row sums of received: .9, 1.25, 1.25, 1.
const tokens = createVisualTokens({
  length: 8,
  grid: { rows: 4, columns: 2 },
  signals: [
    { signal: 'attentionGiven', values: Float32Array.of(1, 0, 0, 0, 0, 0, 0, 0) },
    { signal: 'attentionReceived', values: Float32Array.of(0.9, 0, 0.5, 0.75, 0.75, 0.5, 0, 1) },
  ],
});

const keep = async (options: FopruRowOptions): Promise<number[]> => [
  ...(await createFopruRow({ significance: 'received', ...options }).plan(tokens)).sources,
];

describe('createFopruRow', () => {
  it('keeps the rows of the highest sums, ties to the upper one, in their original order', async () => {
    expect(await keep({ budget: { keepRatio: 0.25 } })).toEqual([2, 3]);
    expect(await keep({ budget: { keepRatio: 0.5 } })).toEqual([2, 3, 4, 5]);
    expect(await keep({ budget: { keepRatio: 0.75 } })).toEqual([2, 3, 4, 5, 6, 7]);
  });

  it('turns a count into the whole rows that it holds, at least one', async () => {
    expect(await keep({ budget: { keepCount: 1 } })).toEqual([2, 3]);
    expect(await keep({ budget: { keepCount: 5 } })).toEqual([2, 3, 4, 5]);
    expect(await keep({ budget: { keepCount: 7 } })).toEqual([2, 3, 4, 5, 6, 7]);
    expect(await keep({ budget: { keepCount: 8 } })).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('keeps the fewest rows that hold a share of the significance', async () => {
    // Row sums 1.25, 1.25, 1, .9 of 4.4: one row holds .284 of it, two .568, three .795.
    expect(await keep({ budget: { attentionMass: 0.28 } })).toEqual([2, 3]);
    expect(await keep({ budget: { attentionMass: 0.29 } })).toEqual([2, 3, 4, 5]);
    expect(await keep({ budget: { attentionMass: 0.6 } })).toEqual([2, 3, 4, 5, 6, 7]);
    expect(await keep({ budget: { attentionMass: 0.8 } })).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('on 16 x 16, 11 % and 6 % are the same one row', async () => {
    const values = Float32Array.from({ length: 256 }, (_, i) => (Math.floor(i / 16) === 9 ? 1 : 0.5));
    const square = createVisualTokens({
      length: 256,
      grid: { rows: 16, columns: 16 },
      signals: [{ signal: 'attentionReceived', values }],
    });
    for (const keepRatio of [0.11, 0.06]) {
      const plan = await createFopruRow({ budget: { keepRatio }, significance: 'received' }).plan(square);
      expect([...plan.sources]).toEqual(Array.from({ length: 16 }, (_, column) => 144 + column));
    }
  });

  it('not reordered: rows by score, left to right inside', async () => {
    expect(await keep({ budget: { keepRatio: 1 }, reorder: false })).toEqual([2, 3, 4, 5, 6, 7, 0, 1]);
  });

  it('takes the marginal that it is told to', async () => {
    expect(await keep({ budget: { keepCount: 2 }, significance: 'given' })).toEqual([0, 1]);
  });

  it('leaves a grid for the next reducer, unless rows changed places', async () => {
    const plan = await createFopruRow({ budget: { keepRatio: 0.5 } }).plan(tokens);
    expect(carryTokens(tokens, plan).grid).toEqual({ rows: 2, columns: 2 });
    const shuffled = await createFopruRow({ budget: { keepRatio: 0.5 }, reorder: false }).plan(tokens);
    expect(carryTokens(tokens, shuffled).grid).toBeUndefined();
  });

  it('says what to do after a reducer that broke the grid', async () => {
    const left = carryTokens(tokens, selectionPlan([0, 3, 5], 8));
    const plan = createFopruRow().plan(left);
    await expect(plan).rejects.toThrow(GridRequiredError);
    await expect(plan).rejects.toThrow('put fopru-row before fopru-rank');
  });

  it('keeps a quarter by the variance rule, reordered, unless told otherwise', () => {
    expect(fopruRowDefaults).toEqual({
      budget: { keepRatio: 0.25 },
      significance: 'variance',
      reorder: true,
    });
  });
});
