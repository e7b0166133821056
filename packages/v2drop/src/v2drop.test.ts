import {
  beforeLanguageLayer,
  createTokens,
  hiddenChange,
  InvalidArgumentError,
  planTokens,
  scaledLayer,
  type Budget,
  type TokenReducer,
  type TokenSource,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import * as fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { keepCounts } from './keep-counts.js';
import { v2drop, v2dropEntry, type V2dropOptions } from './v2drop.js';

for (const stage of [0, 1, 2]) {
  describe(`conforms: stage ${stage + 1}`, () => {
    const cases = reducerConformance({
      create: (options) => atStage(v2drop(options), stage),
      ranks: 'tokens',
      expectedLength: (budget, { length }) => expectedCounts(budget, length)[stage],
    });
    for (const { name, run } of cases) test(name, run);
  });
}

/** The reducer at one of its stages alone. */
function atStage(reducer: TokenReducer, stage: number): TokenReducer {
  return { ...reducer, at: [reducer.at[stage]], plan: (tokens, site) => reducer.plan(tokens, site, stage) };
}

/** Layers 0 to 2, 3 to 16, 17 to 21, 22 to 31. */
function meanOf(entered: number, [first, second, third]: readonly number[]): number {
  return (3 * entered + 14 * first + 5 * second + 10 * third) / 32;
}

/** By trying each factor at which a stage keeps one token more. */
function expectedCounts(budget: Budget, entered: number): number[] {
  const count =
    'keepRatio' in budget
      ? Math.max(1, Math.floor(entered * budget.keepRatio + 1e-9))
      : Math.min(budget.keepCount, entered);
  if (count === entered) return [entered, entered, entered];
  const parts = [entered / 2, entered / 4, entered / 576];
  const countsAt = (factor: number): number[] =>
    parts.map((part) => Math.min(entered, Math.max(1, Math.round(part * factor))));
  const factors = parts.flatMap((part) =>
    Array.from({ length: entered }, (_, i) => ((i + 0.5) / part) * (1 + 1e-12)),
  );
  return countsAt(Math.max(0, ...factors.filter((factor) => meanOf(entered, countsAt(factor)) <= count)));
}

/** Tokens that the layer before each stage of 32 layers moved so far. */
function tokensOf(change: ArrayLike<number>, entered = change.length): TokenSource {
  const values = Float32Array.from(change);
  return createTokens({
    length: change.length,
    entered,
    signals: [2, 16, 21].map((layer) => ({ ...hiddenChange({ layer }), values })),
  });
}

const keep = async (options: V2dropOptions, tokens: TokenSource, stage = 0): Promise<number[]> => {
  const reducer = v2drop(options);
  return [...(await planTokens(reducer, tokens, reducer.at[stage], stage)).sources];
};

/** A permutation of 0 .. length - 1. */
function shuffled(length: number): number[] {
  return Array.from({ length }, (_, i) => (i * 37 + 11) % length);
}

describe('v2drop', () => {
  it('keeps what moved farthest, in its order, of equals the lower index', async () => {
    const tokens = tokensOf([1, 5, 2, 5, 3, 4]);
    expect(await keep({}, tokens, 0)).toEqual([1, 3, 5]);
    expect(await keep({}, tokensOf([5, 5, 4]), 1)).toEqual([0]); // floor(1.5)
    expect(await keep({}, tokensOf([5, 5, 4]), 2)).toEqual([0]);
  });

  it('keeps half, half of these and one as the official code does, unless told otherwise', async () => {
    let length = 576;
    for (const [stage, count] of [288, 144, 1].entries()) {
      const change = shuffled(length);
      const kept = await keep({}, tokensOf(change, 576), stage);
      expect(kept.map((token) => change[token]).toSorted((a, b) => a - b)).toEqual(
        Array.from({ length: count }, (_, i) => length - count + i),
      );
      length = count;
    }
    expect(await keep({}, tokensOf([7]), 0)).toEqual([0]);
    expect(meanOf(576, [288, 144, 1])).toBeCloseTo(202.8, 1);
  });

  it('is the official schedule at its mean, 203 of 576', () => {
    expect(keepCounts(203, 576).kept).toEqual([288, 144, 1]);
  });

  it.each([
    [64, 256, [77, 38, 1]], // (768 + 1078 + 190 + 10) / 32 = 63.94; with 78 of the 128 and 39 of the 64 64.53
    [288, 576, [452, 226, 2]], // (1728 + 6328 + 1130 + 20) / 32 = 287.69; with 453 at the first stage 288.13
    [500, 576, [576, 576, 332]], // (22 * 576 + 3320) / 32 = 499.75: the first two stages drop none
  ])('leaves %i of %i tokens on average by the official counts times one factor', (count, entered, kept) => {
    expect(keepCounts(count, entered)).toEqual({ kept, mean: meanOf(entered, kept) });
  });

  it('leaves the mean within one token of what is asked, never above it, where that can be', () => {
    const cases = fc
      .integer({ min: 1, max: 3000 })
      .chain((entered) =>
        fc.record({ entered: fc.constant(entered), count: fc.integer({ min: 1, max: entered }) }),
      );
    fc.assert(
      fc.property(cases, ({ entered, count }) => {
        const { kept, mean } = keepCounts(count, entered);
        expect(mean).toBeCloseTo(meanOf(entered, kept), 9);
        const fewest = meanOf(entered, [1, 1, 1]);
        if (count < fewest) expect(kept).toEqual([1, 1, 1]);
        else {
          expect(mean).toBeLessThanOrEqual(count);
          expect(count - mean).toBeLessThan(1);
        }
        expect(kept.every((each, stage) => each <= (kept[stage - 1] ?? entered))).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  it('counts by what entered the language model', async () => {
    const count = keepCounts(144, 576).kept[0];
    expect(await keep({ keepRatio: 0.25 }, tokensOf(shuffled(400), 576))).toHaveLength(count);
    expect(await keep({ keepRatio: 0.25 }, tokensOf(shuffled(50), 576))).toHaveLength(50);
  });

  it('says what cannot be had, at its first stage alone', async () => {
    const reducer = v2drop({ keepRatio: 0.05 });
    const tokens = tokensOf(shuffled(100));
    expect((await planTokens(reducer, tokens)).warnings).toEqual([
      '5 of 100 tokens cannot be had, as the first layers see all: 10.3 are left on average', // 329 / 32
    ]);
    expect((await planTokens(reducer, tokens, reducer.at[1], 1)).warnings).toEqual([]);
    expect((await planTokens(v2drop({ keepRatio: 0.2 }), tokens)).warnings).toEqual([]);
  });

  it('ranks all images together', async () => {
    const spans = [
      { start: 0, length: 3 },
      { start: 3, length: 3 },
    ];
    expect(await keep({}, { ...tokensOf([6, 5, 4, 3, 2, 1]), spans })).toEqual([0, 1, 2]);
  });

  it('reads how far the layer before each stage moved the tokens, and nothing else', () => {
    const { at, requires, positions, rule } = v2drop();
    expect(at).toEqual([3, 17, 22].map((layer) => beforeLanguageLayer(scaledLayer(layer, 32))));
    expect({ requires, positions, rule }).toEqual({
      requires: { change: hiddenChange({ layer: 'before' }) },
      positions: undefined,
      rule: undefined,
    });
    expect(v2dropEntry.options.map(({ option, default: value }) => [option, value])).toEqual([
      ['keepRatio', ''],
      ['keepCount', ''],
    ]);
  });

  it.each([
    [{ layer: 3 }, 'option must be one of keepRatio, keepCount'],
    [{ keepRatio: 0.5, keepCount: 5 }, 'keepRatio and keepCount must be given one at a time'],
    [{ keepRatio: 0 }, 'keepRatio must be a number in (0, 1]'],
  ])('refuses %j', (options, message) => {
    expect(() => v2drop(options as V2dropOptions)).toThrow(InvalidArgumentError);
    expect(() => v2drop(options as V2dropOptions)).toThrow(message);
  });

  it('is made from text', async () => {
    const reducer = v2dropEntry.create({ keep: '1' });
    expect(reducer.name).toBe(v2dropEntry.name);
    expect((await planTokens(reducer, tokensOf([3, 1]))).outputLength).toBe(2);
  });
});
