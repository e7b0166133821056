import { carryTokens, createVisualTokens, isIdentity, type VisualTokens } from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { createFopruRank, fopruRankDefaults, type FopruRankOptions } from './fopru-rank.js';

for (const significance of ['variance', 'low-variance', 'given', 'received'] as const) {
  describe(`conforms: ${significance}`, () => {
    const create = (options: FopruRankOptions): ReturnType<typeof createFopruRank> =>
      createFopruRank({ ...options, significance });
    for (const { name, run } of reducerConformance({ create, ranks: 'tokens' })) test(name, run);
  });
}

describe('conforms: not reordered', () => {
  // In descending order of score, keeping everything is a permutation, not the identity.
  const create = (options: FopruRankOptions): ReturnType<typeof createFopruRank> =>
    createFopruRank({ ...options, reorder: false });
  const cases = reducerConformance({ create, ranks: 'tokens', ascending: false });
  for (const { name, run } of cases.filter(({ name }) => !name.includes('identity'))) test(name, run);
});

// Variance of given: mean .2, (.01 + .0025 + .0025 + .01 + 0 + 0) / 6; of received: larger by far.
const tokens: VisualTokens = createVisualTokens({
  length: 6,
  grid: { rows: 2, columns: 3 },
  signals: [
    { signal: 'attentionGiven', values: Float32Array.of(0.1, 0.15, 0.25, 0.3, 0.2, 0.2) },
    { signal: 'attentionReceived', values: Float32Array.of(0.9, 0.1, 0.5, 0.7, 0.5, 0) },
  ],
});

const keep = async (options: FopruRankOptions): Promise<number[]> => [
  ...(await createFopruRank(options).plan(tokens)).sources,
];

describe('createFopruRank', () => {
  it('keeps the highest by the marginal of higher variance, in their original order', async () => {
    expect(await keep({ budget: { keepCount: 3 } })).toEqual([0, 2, 3]); // .9, .5 (before its equal at 4), .7
    expect(await keep({ budget: { keepRatio: 0.34 } })).toEqual([0, 3]); // 6 * .34 = 2.04
    expect(await keep({ budget: { keepRatio: 0.01 } })).toEqual([0]); // at least one
  });

  it('keeps them by descending significance where it does not reorder', async () => {
    expect(await keep({ budget: { keepCount: 4 }, reorder: false })).toEqual([0, 3, 2, 4]);
    expect(await keep({ budget: { keepRatio: 1 }, reorder: false })).toEqual([0, 3, 2, 4, 1, 5]);
  });

  it('takes the marginal that it is told to', async () => {
    const budget = { keepCount: 2 };
    expect(await keep({ budget, significance: 'given' })).toEqual([2, 3]);
    expect(await keep({ budget, significance: 'received' })).toEqual([0, 3]);
    expect(await keep({ budget, significance: 'low-variance' })).toEqual([2, 3]);
  });

  it('keeps a quarter by the variance rule, reordered, unless told otherwise', async () => {
    expect(fopruRankDefaults).toEqual({
      budget: { keepRatio: 0.25 },
      significance: 'variance',
      reorder: true,
    });
    expect(await keep({})).toEqual([0]);
  });

  it('says which options are wrong', () => {
    expect(() => createFopruRank({ significance: 'mean' as 'given' })).toThrow('significance must be');
    expect(() => createFopruRank({ reorder: 'no' as unknown as boolean })).toThrow(
      'reorder must be true or false',
    );
  });

  it('follows itself: half of the half is what a quarter is', async () => {
    const half = createFopruRank({ budget: { keepCount: 4 }, significance: 'received' });
    const first = await half.plan(tokens);
    const left = carryTokens(tokens, first);
    const second = await createFopruRank({ budget: { keepCount: 2 }, significance: 'received' }).plan(left);
    expect([...second.sources].map((source) => first.sources[source])).toEqual([0, 3]);
    expect(left.grid).toBeUndefined();
  });

  it('keeping everything keeps the grid too', async () => {
    const plan = await createFopruRank({ budget: { keepRatio: 1 } }).plan(tokens);
    expect(isIdentity(plan)).toBe(true);
    expect(carryTokens(tokens, plan).grid).toEqual({ rows: 2, columns: 3 });
  });
});
