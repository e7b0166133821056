import { createTokens, planTokens, projectedFeatures, similarityBy, type TokenSource } from '@foveate/core';
import { reducerConformance, type ReducerConformanceOptions } from '@foveate/core/testing';
import * as fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { divprune, type DivpruneOptions } from './divprune.js';

/**
 * Not that moved tokens stay kept: the first is often one of two that are each other's nearest, which is a
 * tie.
 */
const withTies = ({ name }: { name: string }): boolean => !name.includes('permuted');

describe('conforms', () => {
  const cases = reducerConformance({ create: divprune, ranks: 'tokens' }).filter(withTies);
  for (const { name, run } of cases) test(name, run);
});

describe('conforms: preset official-code', () => {
  const options: ReducerConformanceOptions = {
    create: (given) => divprune({ ...given, preset: 'official-code' }),
    ranks: 'tokens',
    expectedLength: (budget, { length }) =>
      'keepRatio' in budget
        ? Math.max(1, pythonRound(length * budget.keepRatio))
        : Math.min(length, 'keepCount' in budget ? budget.keepCount : length),
  };
  for (const { name, run } of reducerConformance(options).filter(withTies)) test(name, run);
});

/** Python's round, by its definition: the nearest whole number, of two the even one. */
function pythonRound(value: number): number {
  const nearest = [Math.floor(value), Math.ceil(value)];
  const [best = NaN] = nearest.sort((a, b) => Math.abs(value - a) - Math.abs(value - b) || (a % 2) - (b % 2));
  return best;
}

type Rows = readonly (readonly number[])[];

function tokensOf(rows: Rows): TokenSource {
  const values = Float32Array.from(rows.flat());
  return createTokens({ length: rows.length, signals: [{ ...projectedFeatures(), values }] });
}

async function kept(rows: Rows, options: DivpruneOptions): Promise<number[]> {
  return [...(await planTokens(divprune(options), tokensOf(rows))).sources];
}

/** Rows [1] of length 1 at these degrees. */
function atDegrees(...degrees: number[]): number[][] {
  return degrees.map((degree) => [Math.cos((degree * Math.PI) / 180), Math.sin((degree * Math.PI) / 180)]);
}

describe('divprune', () => {
  it('starts with the token whose nearest other is farthest, not with the first or the least alike on average', async () => {
    // The nearest of 90° is 50° away. 0° is token 0, and 180° with 0° the farthest pair.
    const rows = atDegrees(0, 1, 2, 40, 90, 150, 180);
    expect(await kept(rows, { keepCount: 1 })).toEqual([4]);
    // Of both groups something is left: 0° is the farthest of 90°, and so is 180°, then the lower index.
    expect(await kept(rows, { keepCount: 2 })).toEqual([0, 4]);
    expect(await kept(rows, { keepCount: 3 })).toEqual([0, 4, 6]);
    expect(await kept(rows, { keepCount: 4 })).toEqual([0, 3, 4, 6]);
  });

  it('compares directions, whatever their lengths', async () => {
    const [zero, twenty, ninety, hundred] = atDegrees(0, 20, 90, 100);
    const rows = [ninety, hundred.map((value) => value * 1000), twenty, zero];
    // 20° and 0° are 20° from their nearest, the others 10°; by length token 1 is far from all.
    expect(await kept(rows, { keepCount: 1 })).toEqual([2]);
  });

  it('keeps the lower of two that are each other’s nearest, however their product was rounded', async () => {
    const tokens = tokensOf(atDegrees(0, 30, 200, 201));
    const rounded = async (above: number, below: number): Promise<number[]> => {
      const similarity: TokenSource['similarity'] = async (...asked) => {
        const cosines = await tokens.similarity(...asked);
        cosines[1] += above;
        cosines[4] += below;
        return cosines;
      };
      return [...(await planTokens(divprune({ keepCount: 1 }), { ...tokens, similarity })).sources];
    };
    expect(await rounded(1e-7, 0)).toEqual([0]);
    expect(await rounded(0, 1e-7)).toEqual([0]);
  });

  it('takes no token twice, where there are fewer directions than tokens to keep', async () => {
    const rows = atDegrees(0, 0, 0, 90, 90, 180);
    expect(await kept(rows, { keepCount: 3 })).toEqual([0, 3, 5]);
    expect(await kept(rows, { keepCount: 5 })).toHaveLength(5);
    expect(await kept(new Array<number[]>(6).fill([1, 2]), { keepCount: 4 })).toEqual([0, 1, 2, 3]);
  });

  it.each([
    [61, 0.5, 30, 30], // 30.5
    [63, 0.5, 31, 32], // 31.5
    [576, 0.098, 56, 56], // 56.448
    [576, 0.0981, 56, 57], // 56.5056
    [9, 1 / 18, 1, 1], // 0.5, but never none
  ])(
    'of %i tokens keeps %f of them: %i, and %i as the official code counts',
    async (length, keepRatio, ours, official) => {
      const rows = Array.from({ length }, (_, i) => [Math.cos(i), Math.sin(i), Math.sin(i * i)]);
      expect(await kept(rows, { keepRatio })).toHaveLength(ours);
      expect(await kept(rows, { keepRatio, preset: 'official-code' })).toHaveLength(official);
    },
  );

  it('reads what is behind the projector, and nothing else', () => {
    expect(divprune().requires).toEqual({ similar: similarityBy(projectedFeatures()) });
  });

  it('knows two presets', () => {
    expect(() => divprune({ preset: 'paper' as 'common' })).toThrow(
      /preset .*'common' or 'official-code'.*paper/,
    );
  });
});

/** Rows of 5 numbers, and how many of them to keep. */
const someRows = fc
  .array(fc.noBias(fc.array(fc.integer({ min: -1000, max: 1000 }), { minLength: 5, maxLength: 5 })), {
    minLength: 2,
    maxLength: 9,
  })
  .map((rows) => rows.map(([first, ...others]) => [first + 0.5, ...others])) // none of norm 0
  .chain((rows) => fc.tuple(fc.constant(rows), fc.integer({ min: 1, max: rows.length - 1 })));

/** 1 - cosine, in float64. */
function distance(a: readonly number[], b: readonly number[]): number {
  const dot = a.reduce((sum, value, d) => sum + value * b[d], 0);
  return 1 - dot / (Math.hypot(...a) * Math.hypot(...b));
}

/** Of rows of length 1; a metric, which 1 - cosine is not, and of the same order. */
function chord(a: readonly number[], b: readonly number[]): number {
  return Math.sqrt(2 * Math.max(0, distance(a, b)));
}

/** The first of the farthest; a sample where rounding would decide is left out. */
function farthest(rows: Rows, from: readonly number[], of: (i: number) => readonly number[]): number {
  const distances = from.map((i) => Math.min(...of(i).map((j) => distance(rows[i], rows[j]))));
  const highest = Math.max(...distances);
  fc.pre(distances.every((one) => one === highest || one < highest - 1e-6));
  return from[distances.indexOf(highest)];
}

function smallestDistance(rows: Rows, of: readonly number[]): number {
  return Math.min(...of.flatMap((i) => of.filter((j) => j !== i).map((j) => chord(rows[i], rows[j]))));
}

function subsets(from: readonly number[], size: number): number[][] {
  if (size === 0) return [[]];
  return from.flatMap((first, i) => subsets(from.slice(i + 1), size - 1).map((rest) => [first, ...rest]));
}

describe('for any tokens', () => {
  it('keeps what the definition says, step by step', async () => {
    await fc.assert(
      fc.asyncProperty(someRows, async ([rows, count]) => {
        const all = rows.map((_, i) => i);
        const first = farthest(rows, all, (i) => all.filter((j) => j !== i));
        const expected = [first];
        while (expected.length < count) {
          const left = all.filter((i) => !expected.includes(i));
          expected.push(farthest(rows, left, () => expected));
        }
        const actual = await kept(rows, { keepCount: count });
        expect(actual).toEqual(expected.sort((a, b) => a - b));
      }),
    );
  });

  it('the smallest distance kept is at least half of the largest possible', async () => {
    const several = someRows.filter(([, count]) => count > 1);
    await fc.assert(
      fc.asyncProperty(several, async ([rows, count]) => {
        const possible = subsets(
          rows.map((_, i) => i),
          count,
        ).map((subset) => smallestDistance(rows, subset));
        const found = smallestDistance(rows, await kept(rows, { keepCount: count }));
        expect(found).toBeGreaterThanOrEqual(Math.max(...possible) / 2 - 1e-4);
      }),
    );
  });
});
