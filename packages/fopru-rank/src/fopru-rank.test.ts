import {
  attentionGiven,
  attentionReceived,
  carryTokens,
  createTokens,
  isIdentity,
  planTokens,
  type TokenSource,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { fopruRank, fopruRankEntry, type FopruRankOptions } from './fopru-rank.js';

for (const significance of ['variance', 'low-variance', 'given', 'received'] as const) {
  describe(`conforms: ${significance}`, () => {
    const create = (options: FopruRankOptions): ReturnType<typeof fopruRank> =>
      fopruRank({ ...options, significance });
    for (const { name, run } of reducerConformance({ create, ranks: 'tokens' })) test(name, run);
  });
}

describe('conforms: not reordered', () => {
  // In descending order of score, keeping everything is a permutation, not the identity.
  const create = (options: FopruRankOptions): ReturnType<typeof fopruRank> =>
    fopruRank({ ...options, order: 'score' });
  const cases = reducerConformance({ create, ranks: 'tokens', ascending: false });
  for (const { name, run } of cases.filter(({ name }) => !name.includes('identity'))) test(name, run);
});

describe('conforms: by mass unless told otherwise', () => {
  const create = (options: FopruRankOptions): ReturnType<typeof fopruRank> =>
    fopruRank(Object.keys(options).length > 0 ? options : { attentionMass: 0.7 });
  for (const { name, run } of reducerConformance({ create, ranks: 'tokens' })) test(name, run);
});

// Variance of given: mean .2, (.01 + .0025 + .0025 + .01 + 0 + 0) / 6; of received: larger by far.
const tokens: TokenSource = createTokens({
  length: 6,
  grid: { rows: 2, columns: 3 },
  signals: [
    { ...attentionGiven(), values: Float32Array.of(0.1, 0.15, 0.25, 0.3, 0.2, 0.2) },
    { ...attentionReceived(), values: Float32Array.of(0.9, 0.1, 0.5, 0.7, 0.5, 0) },
  ],
});

const keep = async (options: FopruRankOptions): Promise<number[]> => [
  ...(await planTokens(fopruRank(options), tokens)).sources,
];

describe('fopruRank', () => {
  it('keeps the highest by the marginal of higher variance, in their original order', async () => {
    expect(await keep({ keepCount: 3 })).toEqual([0, 2, 3]); // .9, .5 (before its equal at 4), .7
    expect(await keep({ keepRatio: 0.34 })).toEqual([0, 3]); // 6 * .34 = 2.04
    expect(await keep({ keepRatio: 0.01 })).toEqual([0]); // at least one
  });

  it('keeps the fewest that hold a share of the significance', async () => {
    // Received: .9, .7, .5, .5, .1, 0 of 2.7. Two hold .59 of it, three .78, four .96, five all.
    expect(await keep({ attentionMass: 0.59 })).toEqual([0, 3]);
    expect(await keep({ attentionMass: 0.6 })).toEqual([0, 2, 3]); // .5 before its equal at 4
    expect(await keep({ attentionMass: 0.96 })).toEqual([0, 2, 3, 4]);
    expect(await keep({ attentionMass: 0.97 })).toEqual([0, 1, 2, 3, 4]);
    expect(await keep({ attentionMass: 0.6, order: 'score' })).toEqual([0, 3, 2]);
    // Of the attention given, .1 to .3 of 1.2: the mass is of the significance, whichever it is.
    expect(await keep({ attentionMass: 0.6, significance: 'given' })).toEqual([2, 3, 4]);
  });

  it('mass 1 is the identity, and so is any mass of nothing', async () => {
    expect(isIdentity(await planTokens(fopruRank({ attentionMass: 1 }), tokens))).toBe(true);
    const zeros = new Float32Array(3);
    const dark = createTokens({
      length: 3,
      signals: [{ ...attentionReceived(), values: zeros }],
    });
    const options: FopruRankOptions = { attentionMass: 0.5, significance: 'received' };
    const plan = await planTokens(fopruRank(options), dark);
    expect(isIdentity(plan)).toBe(true);
    expect(plan.warnings).toEqual(['attentionMass 0.5: no token holds any attention, so all are kept']);
  });

  it('keeps them by descending significance where it does not reorder', async () => {
    expect(await keep({ keepCount: 4, order: 'score' })).toEqual([0, 3, 2, 4]);
    expect(await keep({ keepRatio: 1, order: 'score' })).toEqual([0, 3, 2, 4, 1, 5]);
  });

  it('takes the marginal that it is told to', async () => {
    expect(await keep({ keepCount: 2, significance: 'given' })).toEqual([2, 3]);
    expect(await keep({ keepCount: 2, significance: 'received' })).toEqual([0, 3]);
    expect(await keep({ keepCount: 2, significance: 'low-variance' })).toEqual([2, 3]);
  });

  it('keeps a quarter by the variance rule, reordered, unless told otherwise', async () => {
    expect(fopruRankEntry.options.map(({ name, default: byDefault }) => [name, byDefault])).toEqual([
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
    expect(await keep({})).toEqual([0]);
  });

  it('says which options are wrong', () => {
    expect(() => fopruRank({ significance: 'mean' as 'given' })).toThrow('significance must be');
    expect(() => fopruRank({ order: 'random' as 'score' })).toThrow("order must be 'original' or 'score'");
    expect(() => fopruRank({ keepRatio: 0.5, keepCount: 3 })).toThrow('given one at a time');
    expect(() => fopruRank({ budget: { keepRatio: 0.5 } } as object)).toThrow(
      'option must be one of keepRatio,',
    );
    expect(() => fopruRank({ attentionMass: 80 })).toThrow('attentionMass must be a number in (0, 1]');
  });

  it('follows itself: half of the half is what a quarter is', async () => {
    const half = fopruRank({ keepCount: 4, significance: 'received' });
    const first = await planTokens(half, tokens);
    const left = carryTokens(tokens, first);
    const second = await planTokens(fopruRank({ keepCount: 2, significance: 'received' }), left);
    expect([...second.sources].map((source) => first.sources[source])).toEqual([0, 3]);
    expect(left.grid).toBeUndefined();
  });

  it('keeping everything keeps the grid too', async () => {
    const plan = await planTokens(fopruRank({ keepRatio: 1 }), tokens);
    expect(isIdentity(plan)).toBe(true);
    expect(carryTokens(tokens, plan).grid).toEqual({ rows: 2, columns: 3 });
  });
});
