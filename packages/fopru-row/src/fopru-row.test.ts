import {
  attentionGiven,
  attentionReceived,
  type Budget,
  carryTokens,
  createTokens,
  type Grid,
  GridRequiredError,
  planTokens,
  selectionPlan,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { fopruRow, fopruRowEntry, type FopruRowOptions } from './fopru-row.js';

/**
 * Rows times columns, by the words of the method: a ratio of the rows, or the rows that a count holds; at
 * least one.
 */
function expectedLength(budget: Budget, { length, grid }: { length: number; grid: Grid }): number {
  if ('keepRatio' in budget)
    return Math.max(1, Math.floor(grid.rows * budget.keepRatio + 1e-9)) * grid.columns;
  if (budget.keepCount >= length) return length;
  return Math.max(1, Math.floor(budget.keepCount / grid.columns)) * grid.columns;
}

for (const significance of ['variance', 'received'] as const) {
  describe(`conforms: ${significance}`, () => {
    const create = (options: FopruRowOptions): ReturnType<typeof fopruRow> =>
      fopruRow({ ...options, significance });
    const cases = reducerConformance({ create, ranks: 'rows', needsGrid: true, expectedLength });
    for (const { name, run } of cases) test(name, run);
  });
}

describe('conforms: by mass unless told otherwise', () => {
  const create = (options: FopruRowOptions): ReturnType<typeof fopruRow> =>
    fopruRow(Object.keys(options).length > 0 ? options : { attentionMass: 0.7 });
  const cases = reducerConformance({ create, ranks: 'rows', needsGrid: true, expectedLength });
  for (const { name, run } of cases) test(name, run);
});

// Row sums of received: .9, 1.25, 1.25, 1.
const tokens = createTokens({
  length: 8,
  grid: { rows: 4, columns: 2 },
  signals: [
    { ...attentionGiven(), values: Float32Array.of(1, 0, 0, 0, 0, 0, 0, 0) },
    { ...attentionReceived(), values: Float32Array.of(0.9, 0, 0.5, 0.75, 0.75, 0.5, 0, 1) },
  ],
});

const keep = async (options: FopruRowOptions): Promise<number[]> => [
  ...(await planTokens(fopruRow({ significance: 'received', ...options }), tokens)).sources,
];

describe('fopruRow', () => {
  it('keeps the rows of the highest sums, ties to the upper one, in their original order', async () => {
    expect(await keep({ keepRatio: 0.25 })).toEqual([2, 3]);
    expect(await keep({ keepRatio: 0.5 })).toEqual([2, 3, 4, 5]);
    expect(await keep({ keepRatio: 0.75 })).toEqual([2, 3, 4, 5, 6, 7]);
  });

  it('turns a count into the whole rows that it holds, at least one', async () => {
    expect(await keep({ keepCount: 1 })).toEqual([2, 3]);
    expect(await keep({ keepCount: 5 })).toEqual([2, 3, 4, 5]);
    expect(await keep({ keepCount: 7 })).toEqual([2, 3, 4, 5, 6, 7]);
    expect(await keep({ keepCount: 8 })).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('keeps the fewest rows that hold a share of the significance', async () => {
    // Row sums 1.25, 1.25, 1, .9 of 4.4: one row holds .284 of it, two .568, three .795.
    expect(await keep({ attentionMass: 0.28 })).toEqual([2, 3]);
    expect(await keep({ attentionMass: 0.29 })).toEqual([2, 3, 4, 5]);
    expect(await keep({ attentionMass: 0.6 })).toEqual([2, 3, 4, 5, 6, 7]);
    expect(await keep({ attentionMass: 0.8 })).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('on 16 x 16, 11 % and 6 % are the same one row', async () => {
    const values = Float32Array.from({ length: 256 }, (_, i) => (Math.floor(i / 16) === 9 ? 1 : 0.5));
    const square = createTokens({
      length: 256,
      grid: { rows: 16, columns: 16 },
      signals: [{ ...attentionReceived(), values }],
    });
    for (const keepRatio of [0.11, 0.06]) {
      const plan = await planTokens(fopruRow({ keepRatio, significance: 'received' }), square);
      expect([...plan.sources]).toEqual(Array.from({ length: 16 }, (_, column) => 144 + column));
    }
  });

  it('not reordered: rows by score, left to right inside', async () => {
    expect(await keep({ keepRatio: 1, order: 'score' })).toEqual([2, 3, 4, 5, 6, 7, 0, 1]);
  });

  it('takes the marginal that it is told to', async () => {
    expect(await keep({ keepCount: 2, significance: 'given' })).toEqual([0, 1]);
  });

  it('leaves a grid for the next reducer, unless rows changed places', async () => {
    const plan = await planTokens(fopruRow({ keepRatio: 0.5 }), tokens);
    expect(carryTokens(tokens, plan).grid).toEqual({ rows: 2, columns: 2 });
    const shuffled = await planTokens(fopruRow({ keepRatio: 0.5, order: 'score' }), tokens);
    expect(carryTokens(tokens, shuffled).grid).toBeUndefined();
  });

  it('says what to do after a reducer that broke the grid', async () => {
    const left = carryTokens(tokens, selectionPlan([0, 3, 5], 8));
    const plan = planTokens(fopruRow(), left);
    await expect(plan).rejects.toThrow(GridRequiredError);
    await expect(plan).rejects.toThrow('put fopru-row before fopru-rank');
  });

  it('keeps a quarter by the variance rule, reordered, unless told otherwise', () => {
    expect(fopruRowEntry.options.map(({ name, default: byDefault }) => [name, byDefault])).toEqual([
      ...[
        ['keep', '0.25'],
        ['count', ''],
        ['mass', ''],
      ],
      ...[
        ['significance', 'variance'],
        ['order', 'original'],
      ],
    ]);
  });
});
