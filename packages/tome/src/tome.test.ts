import {
  createTokens,
  insideVisionLayers,
  InvalidArgumentError,
  keys,
  planTokens,
  resolveBudget,
  similarityBy,
  type ReductionPlan,
  type TokenReducer,
  type TokenSource,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import * as fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { tome, tomeEntry, type TomeOptions } from './tome.js';

describe('conforms', () => {
  // The suite plans for layer 0 of 23, which merges the 23rd part of what is to go, rounded up.
  const cases = reducerConformance({
    create: tome,
    selects: false,
    ascending: false,
    expectedLength: (budget, { length }) =>
      length -
      Math.min(Math.floor(length / 2), Math.ceil((length - resolveBudget(budget, length).count) / 23)),
  });
  for (const { name, run } of cases) test(name, run);
});

/** Directions in the plane, in degrees. */
function tokensOf(
  degrees: readonly number[],
  {
    layer = 0,
    layers = 1,
    ...rest
  }: Partial<TokenSource> & { layer?: number; layers?: number; prefixTokens?: number } = {},
): TokenSource {
  const values = Float32Array.from(
    degrees.flatMap((angle, i) => {
      const length = 1 + i; // only directions matter
      return [length * Math.cos((angle * Math.PI) / 180), length * Math.sin((angle * Math.PI) / 180)];
    }),
  );
  const { prefixTokens = 1, sizes, entered } = rest;
  return createTokens({
    length: degrees.length,
    encoder: { layers, prefixTokens },
    ...(sizes && { sizes }),
    ...(entered !== undefined && { entered }),
    signals: [{ ...keys({ layer, heads: 'mean' }), values }],
  });
}

const rowsOf = ({ outputLength, offsets, sources, weights }: ReductionPlan): [number[], number[]][] =>
  Array.from({ length: outputLength }, (_, m) => {
    const part = (values: Uint32Array | Float32Array): number[] => [
      ...values.subarray(offsets[m], offsets[m + 1]),
    ];
    return [part(sources), weights ? part(weights) : [1]];
  });

/** Who is merged, without the weights. */
const groupsOf = async (options: TomeOptions, tokens: TokenSource, layer = 0): Promise<number[][]> =>
  rowsOf(await planTokens(tome(options), tokens, { tower: 'vision', layer, within: true })).map(
    ([group]) => group,
  );

describe('tome', () => {
  it('merges by turns, behind a class token: patches 1, 3, 5 into 0, 2, 4', async () => {
    // 1 is nearest to 2 (1 degree), 3 to 4 (20), 5 to 0 (3): 1 and 5 are merged.
    const tokens = tokensOf([90, 11, 10, 40, 60, 93]);
    expect(await groupsOf({ r: 2 }, tokens)).toEqual([[3], [0, 5], [1, 2], [4]]);
    expect(await groupsOf({ keepCount: 4 }, tokens)).toEqual([[3], [0, 5], [1, 2], [4]]);
  });

  it('merges by turns, without one: patches 0, 2, 4 into 1, 3, 5; those left by similarity', async () => {
    // 0 is nearest to 5 (3 degrees), 2 to 1 (1), 4 to 3 (20).
    const tokens = tokensOf([90, 11, 10, 40, 60, 93], { prefixTokens: 0 });
    expect(await groupsOf({ r: 1 }, tokens)).toEqual([[0], [4], [1, 2], [3], [5]]);
    const further = tokensOf([60, 11, 10, 40, 90, 93], { prefixTokens: 0 });
    expect(await groupsOf({ r: 1 }, further)).toEqual([[4], [0], [1, 2], [3], [5]]); // 3 degrees before 20
  });

  it('takes several into one, and averages by how many patches they stand for', async () => {
    const sizes = Float32Array.of(2, 1, 1, 5, 1, 3);
    const tokens = tokensOf([10, 11, 90, 9, 50, 12], { sizes });
    const plan = await planTokens(tome({ keepCount: 3 }), tokens);
    const [weighted, ...others] = rowsOf(plan);
    expect(others).toEqual([
      [[2], [1]],
      [[4], [1]],
    ]);
    expect(weighted[0]).toEqual([0, 1, 3, 5]);
    for (const [i, size] of [2, 1, 5, 3].entries()) expect(weighted[1][i]).toBeCloseTo(size / 11, 6);
  });

  it('of equally similar tokens merges the first, into the first', async () => {
    expect(await groupsOf({ r: 1 }, tokensOf([0, 0, 0, 0, 0]))).toEqual([[3], [0, 1], [2], [4]]);
  });

  it('spreads a budget over the layers, by how many patches entered', async () => {
    const degrees = Array.from({ length: 20 }, (_, i) => i);
    const left = async (layer: number, length: number): Promise<number> => {
      const tokens = tokensOf(degrees.slice(0, length), { layer, layers: 3, entered: 20 });
      return (await groupsOf({ keepCount: 10 }, tokens, layer)).length;
    };
    expect([await left(0, 20), await left(1, 16), await left(2, 13)]).toEqual([16, 13, 10]); // 4, 3, 3
  });

  it('warns once, in layer 0, where layers are too few for the budget', async () => {
    const plans = [
      await planTokens(tome({ keepCount: 1 }), tokensOf([0, 1, 2, 3, 4, 5, 6, 7], { layers: 2 })),
      await planTokens(tome({ keepCount: 1 }), tokensOf([0, 1, 2, 3], { layer: 1, layers: 2, entered: 8 }), {
        tower: 'vision',
        layer: 1,
        within: true,
      }),
    ];
    expect(plans.map(({ outputLength }) => outputLength)).toEqual([4, 2]);
    expect(plans.map(({ warnings }) => warnings)).toEqual([
      ['2 layers that merge half of their 8 tokens at most leave 2, not 1'],
      [],
    ]);
  });

  it('merges half of the tokens at most, and a single one into nothing', async () => {
    expect(await groupsOf({ r: 100 }, tokensOf([0, 10, 20, 30, 40]))).toHaveLength(3);
    expect(await groupsOf({ r: 100 }, tokensOf([0]))).toEqual([[0]]);
  });

  it('stands for every token once, whatever they are', async () => {
    const samples = fc.record({
      degrees: fc.array(fc.integer({ min: 0, max: 359 }), { minLength: 1, maxLength: 30 }),
      r: fc.nat({ max: 20 }),
      prefixTokens: fc.nat({ max: 2 }),
    });
    await fc.assert(
      fc.asyncProperty(samples, async ({ degrees, r, prefixTokens }) => {
        const groups = await groupsOf({ r }, tokensOf(degrees, { prefixTokens }));
        expect(groups.flat().sort((a, b) => a - b)).toEqual([...degrees.keys()]);
        expect(groups).toHaveLength(degrees.length - Math.min(r, Math.floor(degrees.length / 2)));
      }),
    );
  });

  it('declares its choice as a rule', () => {
    const { at, rule, requires } = tome({ r: 16, inflect: -1 });
    expect({ at, rule, requires }).toEqual({
      at: [insideVisionLayers],
      rule: { rule: 'merge-bipartite', metric: 'similar', amount: { r: 16, inflect: -1 } },
      requires: { similar: similarityBy(keys({ layer: 'before', heads: 'mean' })) },
    });
    const amounts = [{}, { keepCount: 9 }, { r: 3 }].map((options) => tome(options).rule);
    expect(amounts.map((one) => one?.rule === 'merge-bipartite' && one.amount)).toEqual([
      { keepRatio: 0.25 },
      { keepCount: 9 },
      { r: 3, inflect: 0 },
    ]);
  });

  it.each([
    [{ r: -1 }, 'r must be an integer, 0 or more'],
    [{ r: 1.5 }, 'r must be an integer, 0 or more'],
    [{ r: 4, inflect: 2 }, 'inflect must be a number in [-1, 1]'],
    [{ inflect: -1 }, 'inflect must be absent'],
    [{ r: 4, keepRatio: 0.5 }, 'given one at a time'],
  ])('refuses %j', (options, message) => {
    expect(() => tome(options)).toThrow(InvalidArgumentError);
    expect(() => tome(options)).toThrow(message);
  });

  it('acts inside layers of an encoder', async () => {
    const { encoder, ...elsewhere } = tokensOf([0, 1, 2]);
    expect(encoder).toBeDefined();
    await expect(planTokens(tome(), elsewhere)).rejects.toThrow(/tokens\.encoder/);
  });

  it('is made from text', () => {
    const made: TokenReducer = tomeEntry.create({ r: '16', inflect: '-1' });
    expect(made.rule).toEqual(tome({ r: 16, inflect: -1 }).rule);
    expect(tomeEntry.create({ keep: '0.5' }).rule).toEqual(tome({ keepRatio: 0.5 }).rule);
  });
});
