import {
  beforeLanguageLayer,
  createTokens,
  InvalidArgumentError,
  planTokens,
  questionAttention,
  scaledLayer,
  type ReductionPlan,
  type TokenReducer,
  type TokenSource,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import * as fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { priortr, priortrEntry, type PriortrOptions } from './priortr.js';

for (const rows of ['last', 'mean'] as const) {
  describe(`conforms: rows ${rows}`, () => {
    const create = (options: PriortrOptions): TokenReducer => priortr({ ...options, rows });
    for (const { name, run } of reducerConformance({ create, ranks: 'tokens' })) test(name, run);
  });
}

/** [T, N], as an attention map has it: what each token behind the image pays. */
function tokensOf(map: readonly (readonly number[])[], layer = 2): TokenSource {
  const values = Float32Array.from(map[0].flatMap((_, token) => map.map((row) => row[token])));
  return createTokens({
    length: map[0].length,
    signals: [{ ...questionAttention({ layer }), values }],
  });
}

/**
 * The first token behind the image looks at tokens 0 and 1, as it would whatever is asked; the question at 1
 * and 3. The rows do not have the same sum.
 */
const map = [
  [0.4, 0.3, 0.05, 0.05], // sum 0.8
  [0.1, 0.1, 0.1, 0.1],
  [0.02, 0.05, 0.01, 0.02], // sum 0.1
];

const keep = async (options: PriortrOptions, tokens = tokensOf(map)): Promise<number[]> => [
  ...(await planTokens(priortr(options), tokens)).sources,
];

describe('priortr', () => {
  it('keeps what the last token pays more to than the first behind the image does, both as shares', async () => {
    // P = 0.2, 0.5, 0.1, 0.2; Q = 0.5, 0.375, 0.0625, 0.0625
    // P log(P / Q) = 0.2 ln 0.4 = -0.183; 0.5 ln 1.33 = 0.144; 0.1 ln 1.6 = 0.047; 0.2 ln 3.2 = 0.233
    expect(await keep({ keepCount: 1 })).toEqual([3]);
    expect(await keep({ keepCount: 2 })).toEqual([1, 3]);
    expect(await keep({ keepCount: 3 })).toEqual([1, 2, 3]);
  });

  it('takes the mean over all tokens behind the image where it is told to', async () => {
    // Means times 3: 0.52, 0.45, 0.16, 0.17 of 1.3, so P = 0.4, 0.346, 0.123, 0.131
    // P log(P / Q) = -0.089, -0.028, 0.083, 0.097
    expect(await keep({ keepCount: 2, rows: 'mean' })).toEqual([2, 3]);
    expect(await keep({ keepCount: 3, rows: 'mean' })).toEqual([1, 2, 3]);
    // The first of them too: 0.1 ln 12.5 = 0.253 and 0.49 ln 1.633 = 0.240; but 0.054 ln 6.75 = 0.103 and
    // 0.395 ln 1.317 = 0.109.
    const close = tokensOf([
      [0.008, 0.3, 0.692],
      [0.1, 0.49, 0.41],
    ]);
    expect(await keep({ keepCount: 1 }, close)).toEqual([0]);
    expect(await keep({ keepCount: 1, rows: 'mean' }, close)).toEqual([1]);
  });

  it('fills its budget from scores below 0, of equal ones the lower index first', async () => {
    const even = tokensOf([
      [0.4, 0.1, 0.1, 0.1, 0.1],
      [0.1, 0.1, 0.1, 0.1, 0.1],
    ]);
    expect(await keep({ keepCount: 3 }, even)).toEqual([1, 2, 3]);
    expect(await keep({ keepCount: 4 }, even)).toEqual([1, 2, 3, 4]);
  });

  it('gives what the question does not look at no score, whatever the image does', async () => {
    const blind = tokensOf([
      [0.5, 0, 0.5, 0],
      [0, 0.5, 0.5, 0],
    ]);
    // 0, large (0.5 log(0.5 / 1e-10)), 0, 0
    expect(await keep({ keepCount: 1 }, blind)).toEqual([1]);
    expect(await keep({ keepCount: 2 }, blind)).toEqual([0, 1]);
  });

  it('agrees with the formula written out in another order', async () => {
    const rows = fc.integer({ min: 2, max: 12 }).chain((length) =>
      fc.array(fc.array(fc.integer({ min: 1, max: 2 ** 20 }), { minLength: length, maxLength: length }), {
        minLength: 2,
        maxLength: 5,
      }),
    );
    await fc.assert(
      fc.asyncProperty(rows, async (integers) => {
        const shares = (row: readonly number[]): number[] => {
          const sum = row.reduce((total, value) => total + value);
          return row.map((value) => value / sum);
        };
        const [p, q] = [shares(integers[integers.length - 1]), shares(integers[0])];
        const scores = p.map((share, token) => share * (Math.log(share) - Math.log(q[token])));
        const tokens = tokensOf(integers.map((row) => row.map((value) => value / 2 ** 20)));
        const kept = await keep({ keepCount: 1 }, tokens);
        // What rounding and the small constant decide is neither's.
        expect(Math.max(...scores) - scores[kept[0]]).toBeLessThan(1e-8);
      }),
    );
  });

  it('ranks by the task alone, and says so, where one token is behind the image', async () => {
    const plan = await planTokens(priortr({ keepCount: 2 }), tokensOf([[0.1, 0.4, 0.3, 0.2]]));
    expect([...plan.sources]).toEqual([1, 2]);
    expect(plan.warnings).toEqual([
      'one token alone stands behind the image, and is both the question and what cannot see it: its attention alone decides',
    ]);
    expect((await planTokens(priortr({ keepCount: 2 }), tokensOf(map))).warnings).toEqual([]);
  });

  it('ranks all images together', async () => {
    const spans = [
      { start: 0, length: 2 },
      { start: 2, length: 2 },
    ];
    const plan: ReductionPlan = await planTokens(priortr({ keepCount: 1 }), { ...tokensOf(map), spans });
    expect([...plan.sources]).toEqual([3]);
  });

  it('acts before layer 3 of 32, on the map of layer 2, unless told otherwise', async () => {
    expect(priortr().at).toEqual([beforeLanguageLayer(scaledLayer(3, 32))]);
    expect(priortr({ layer: -2 }).at).toEqual([beforeLanguageLayer(-2)]);
    expect(priortr().requires).toEqual({ attention: questionAttention({ layer: 'before' }) });
    expect(priortr().positions).toBeUndefined(); // the original ones
    expect(await keep({ layer: 5, keepCount: 1 }, tokensOf(map, 4))).toEqual([3]);
    expect(priortrEntry.options.map(({ option, default: value }) => [option, value])).toEqual([
      ['layer', ''],
      ['keepRatio', '0.25'],
      ['keepCount', ''],
      ['rows', 'last'],
    ]);
    expect(await keep({})).toEqual([3]);
  });

  it.each([
    [{ layer: 0 }, 'layer must be a whole number'],
    [{ rows: 'first' }, "rows must be 'last' or 'mean'"],
    [{ attentionMass: 0.8 }, 'option must be one of layer, keepRatio, keepCount, rows'],
    [{ keepRatio: 0.5, keepCount: 5 }, 'keepRatio and keepCount must be given one at a time'],
  ])('refuses %j', (options, message) => {
    expect(() => priortr(options as PriortrOptions)).toThrow(InvalidArgumentError);
    expect(() => priortr(options as PriortrOptions)).toThrow(message);
  });

  it('is made from text', () => {
    const { name, at } = priortrEntry.create({ layer: '2', count: '128', rows: 'mean' });
    expect({ name, at }).toEqual({ name: priortrEntry.name, at: [beforeLanguageLayer(2)] });
  });
});
