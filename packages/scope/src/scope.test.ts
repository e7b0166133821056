import {
  atFeatures,
  classAttention,
  createTokens,
  features,
  planTokens,
  requestsOf,
  SignalUnavailableError,
  similarityBy,
  type TokenSource,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import * as fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { bestCovering } from './best-covering.js';
import { scope, type ScopeOptions } from './scope.js';

describe('conforms', () => {
  const cases = reducerConformance({ create: scope, ranks: 'tokens' });
  for (const { name, run } of cases) test(name, run);
});

/** @param rows [N][D] @param attention [N] */
function tokensOf(rows: readonly (readonly number[])[], attention: readonly number[]): TokenSource {
  return createTokens({
    length: rows.length,
    signals: [
      { ...features(), values: Float32Array.from(rows.flat()) },
      { ...classAttention({ heads: 'mean' }), values: Float32Array.from(attention) },
    ],
  });
}

async function kept(tokens: TokenSource, options: ScopeOptions): Promise<number[]> {
  return [...(await planTokens(scope(options), tokens)).sources];
}

describe('scope', () => {
  // Cosines: 0.8 of tokens 0 and 1, 0.6 of 1 and 2, 0 of 0 and 2; 3 is the opposite of 0, so -1, -0.8, 0.
  const rows = [
    [1, 0],
    [0.8, 0.6],
    [0, 1],
    [-1, 0],
  ];

  it('keeps what adds most coverage, times class attention', async () => {
    // Gains alone are 1.8, 2.4, 1.6, 1; behind token 1, which covers 0.8, 1, 0.6 and 0: 0.2, -, 0.4, 1.
    expect(await kept(tokensOf(rows, [0.1, 0.1, 0.1, 0.1]), { keepCount: 1 })).toEqual([1]);
    expect(await kept(tokensOf(rows, [0.1, 0.1, 0.1, 0.1]), { keepCount: 2 })).toEqual([1, 3]);
    expect(await kept(tokensOf(rows, [0.1, 0.1, 0.1, 0.1]), { keepCount: 3 })).toEqual([1, 2, 3]);
    // 0.54, 0.48, 0.48, 0.2; behind 0, which covers 1, 0.8, 0 and 0: -, 0.2 * 0.8, 0.3, 0.2.
    expect(await kept(tokensOf(rows, [0.3, 0.2, 0.3, 0.2]), { keepCount: 1 })).toEqual([0]);
    expect(await kept(tokensOf(rows, [0.3, 0.2, 0.3, 0.2]), { keepCount: 2 })).toEqual([0, 2]);
  });

  it('multiplies by the attention, and does not add it', async () => {
    // Multiplied 0.18, 0.0024, 0.016, 0.1; added 1.9, 2.401, 1.61, 1.1.
    expect(await kept(tokensOf(rows, [0.1, 0.001, 0.01, 0.1]), { keepCount: 1 })).toEqual([0]);
  });

  it('does not cover below 0: an opposite takes nothing away', async () => {
    // Counted in full, token 3 would add 1 - 1 - 0.8 = -0.8 to start with, and 1 + 0.8 + 1 behind token 1.
    expect(await kept(tokensOf(rows, [0.1, 0.1, 0.1, 0.6]), { keepCount: 1 })).toEqual([3]);
    // 3 adds 1 * 0.35, and 2 adds 0.4 * 0.9 behind 1.
    expect(await kept(tokensOf(rows, [0.1, 0.9, 0.9, 0.35]), { keepCount: 2 })).toEqual([1, 2]);
  });

  it('raises the attention to the power alpha', async () => {
    const tokens = tokensOf(rows, [0.3, 0.2, 0.3, 0.2]);
    expect(await kept(tokens, { keepCount: 1, alpha: 0 })).toEqual([1]);
    expect(await kept(tokens, { keepCount: 1, alpha: 1 })).toEqual([0]);
    const sharp = tokensOf(rows, [0.3, 0.2, 0.31, 0.2]);
    expect(await kept(sharp, { keepCount: 1, alpha: 3 })).toEqual([0]); // 1.8 * 0.027 beside 1.6 * 0.0298
    expect(await kept(sharp, { keepCount: 1, alpha: 4 })).toEqual([2]); // 1.8 * 0.0081 beside 1.6 * 0.00924
    expect(await kept(sharp, { keepCount: 2, alpha: 1000 })).toEqual([0, 2]); // whose powers are 0 in float64
  });

  it('goes by coverage alone where there is no attention', async () => {
    expect(await kept(tokensOf(rows, [0, 0, 0, 0]), { keepCount: 2 })).toEqual([1, 3]);
  });

  it('takes no token twice where all are covered', async () => {
    const twins = [[1, 0], [1, 0], [1, 0], [0, 1]]; // prettier-ignore
    expect(await kept(tokensOf(twins, [0.1, 0.3, 0.2, 0.1]), { keepCount: 3 })).toEqual([0, 1, 3]);
  });

  it('reads the features before the projector, and the mean attention of the class token', () => {
    const { requires } = scope();
    expect(requires).toEqual({
      similar: similarityBy(features()),
      attention: classAttention({ heads: 'mean' }),
    });
    expect(requestsOf(requires, atFeatures)).toHaveLength(2);
  });

  it('needs a class token', async () => {
    const values = Float32Array.from(rows.flat());
    const tokens = createTokens({ length: 4, signals: [{ ...features(), values }] });
    await expect(planTokens(scope(), tokens)).rejects.toThrow(SignalUnavailableError);
  });

  it.each([-1, NaN, Infinity, '1'])('refuses an alpha of %s', (alpha) => {
    expect(() => scope({ alpha: alpha as number })).toThrow(/alpha must be a number, 0 or more/);
  });
});

/**
 * Cosines in steps of 1/64, symmetric and 1 to themselves, so that sums are exact and ties are many; weights
 * and how many to keep.
 */
const problems = fc.integer({ min: 1, max: 12 }).chain((length) =>
  fc.record({
    steps: fc.array(fc.integer({ min: -64, max: 64 }), { minLength: length ** 2, maxLength: length ** 2 }),
    weights: fc.array(fc.integer({ min: 0, max: 8 }), { minLength: length, maxLength: length }),
    count: fc.integer({ min: 1, max: length }),
  }),
);

/** As the official code goes: every gain anew at every pick, column by column. */
function plainCover(cosines: readonly number[][], weights: readonly number[], count: number): number[] {
  const covered = weights.map(() => 0);
  const picked: number[] = [];
  while (picked.length < count) {
    const gains = weights.map((weight, j) =>
      picked.includes(j)
        ? -Infinity
        : weight * covered.reduce((sum, value, i) => sum + Math.max(0, cosines[i][j] - value), 0),
    );
    const best = gains.indexOf(Math.max(...gains));
    picked.push(best);
    for (const [i, value] of covered.entries()) covered[i] = Math.max(value, cosines[i][best]);
  }
  return picked;
}

describe('bestCovering', () => {
  it('picks what looking at every token at every pick would, ties included', () => {
    fc.assert(
      fc.property(problems, ({ steps, weights, count }) => {
        const all = weights.map((_, i) => i);
        const cosine = (i: number, j: number): number =>
          i === j ? 1 : steps[Math.min(i, j) * weights.length + Math.max(i, j)] / 64;
        const cosines = all.map((i) => all.map((j) => cosine(i, j)));
        const picked = bestCovering(Float32Array.from(cosines.flat()), Float64Array.from(weights), count);
        expect([...picked]).toEqual(plainCover(cosines, weights, count));
      }),
      { numRuns: 300 },
    );
  });

  it('covers at least 1 - 1/e of what any set could', () => {
    fc.assert(
      fc.property(problems, ({ steps, weights: { length }, count }) => {
        const cosines = Float32Array.from({ length: length ** 2 }, (_, at) => {
          const [i, j] = [Math.floor(at / length), at % length];
          return i === j ? 1 : Math.abs(steps[Math.min(i, j) * length + Math.max(i, j)]) / 64;
        });
        const coverageOf = (set: readonly number[]): number =>
          Array.from({ length }, (_, i) => Math.max(...set.map((j) => cosines[j * length + i]))).reduce(
            (sum, value) => sum + value,
          );
        const best = Math.max(...subsets(length, count).map(coverageOf));
        const found = coverageOf([...bestCovering(cosines, new Float64Array(length).fill(1), count)]);
        expect(found).toBeGreaterThanOrEqual((1 - 1 / Math.E) * best);
      }),
      { numRuns: 50 },
    );
  });
});

function subsets(length: number, size: number, from = 0): number[][] {
  if (size === 0) return [[]];
  return Array.from({ length: length - from }, (_, i) => from + i).flatMap((first) =>
    subsets(length, size - 1, first + 1).map((rest) => [first, ...rest]),
  );
}
