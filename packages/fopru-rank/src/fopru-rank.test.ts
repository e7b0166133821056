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

describe('conforms: by mass unless told otherwise', () => {
  const create = ({
    budget = { attentionMass: 0.7 },
  }: FopruRankOptions): ReturnType<typeof createFopruRank> => createFopruRank({ budget });
  for (const { name, run } of reducerConformance({ create, ranks: 'tokens' })) test(name, run);
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

  it('keeps the fewest that hold a share of the significance', async () => {
    // Received: .9, .7, .5, .5, .1, 0 of 2.7. Two hold .59 of it, three .78, four .96, five all.
    expect(await keep({ budget: { attentionMass: 0.59 } })).toEqual([0, 3]);
    expect(await keep({ budget: { attentionMass: 0.6 } })).toEqual([0, 2, 3]); // .5 before its equal at 4
    expect(await keep({ budget: { attentionMass: 0.96 } })).toEqual([0, 2, 3, 4]);
    expect(await keep({ budget: { attentionMass: 0.97 } })).toEqual([0, 1, 2, 3, 4]);
    expect(await keep({ budget: { attentionMass: 0.6 }, reorder: false })).toEqual([0, 3, 2]);
    // Of the attention given, .1 to .3 of 1.2: the mass is of the significance, whichever it is.
    expect(await keep({ budget: { attentionMass: 0.6 }, significance: 'given' })).toEqual([2, 3, 4]);
  });

  it('mass 1 is the identity, and so is any mass of nothing', async () => {
    expect(isIdentity(await createFopruRank({ budget: { attentionMass: 1 } }).plan(tokens))).toBe(true);
    const zeros = new Float32Array(3);
    const dark = createVisualTokens({
      length: 3,
      signals: [{ signal: 'attentionReceived', values: zeros }],
    });
    const options: FopruRankOptions = { budget: { attentionMass: 0.5 }, significance: 'received' };
    const plan = await createFopruRank(options).plan(dark);
    expect(isIdentity(plan)).toBe(true);
    expect(plan.warnings).toEqual(['attentionMass 0.5: no token holds any attention, so all are kept']);
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
    expect(() => createFopruRank({ budget: { attentionMass: 80 } })).toThrow(
      'budget.attentionMass must be a number in (0, 1]',
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
