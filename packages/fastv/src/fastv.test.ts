import {
  beforeLanguageLayer,
  carryTokens,
  createTokens,
  InvalidArgumentError,
  planTokens,
  promptAttention,
  type TokenReducer,
  type TokenSource,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { fastv, fastvEntry, type FastvOptions } from './fastv.js';

for (const rows of ['last', 'mean'] as const) {
  describe(`conforms: rows ${rows}`, () => {
    const create = (options: FastvOptions): TokenReducer => fastv({ ...options, rows });
    for (const { name, run } of reducerConformance({ create, ranks: 'tokens' })) test(name, run);
  });
}

/**
 * Two images of three and four tokens; what layer 2 attends to from the last position and on average, and
 * layer 0 from the last.
 */
const tokens: TokenSource = createTokens({
  length: 7,
  spans: [
    { start: 0, length: 3 },
    { start: 3, length: 4 },
  ],
  signals: [
    {
      ...promptAttention({ layer: 2, rows: 'last' }),
      values: Float32Array.of(0, 0.1, 0.05, 0.2, 0.1, 0.3, 0.1),
    },
    {
      ...promptAttention({ layer: 2, rows: 'mean' }),
      values: Float32Array.of(0.4, 0, 0, 0, 0, 0, 0.3),
    },
    {
      ...promptAttention({ layer: 0, rows: 'last' }),
      values: Float32Array.of(0, 0.5, 0, 0, 0, 0, 0),
    },
  ],
});

const keep = async (options: FastvOptions): Promise<number[]> => [
  ...(await planTokens(fastv(options), tokens)).sources,
];

describe('fastv', () => {
  it('keeps what the layer below K attends to most, all images ranked together, in their order', async () => {
    expect(await keep({ keepCount: 2 })).toEqual([3, 5]);
    expect(await keep({ keepCount: 4 })).toEqual([1, 3, 4, 5]); // .1 three times: at 1, 4 and 6
    expect(await keep({ keepRatio: 0.75 })).toEqual([1, 3, 4, 5, 6]); // 5.25
    expect(await keep({ keepRatio: 0.01 })).toEqual([5]); // at least one
  });

  it('looks from where it is told to, at the layer it is told to', async () => {
    expect(await keep({ keepCount: 2, rows: 'mean' })).toEqual([0, 6]);
    expect(await keep({ keepCount: 1, layer: 1 })).toEqual([1]);
  });

  it('may take every token of an image', async () => {
    const plan = await planTokens(fastv({ keepCount: 2 }), tokens);
    expect(carryTokens(tokens, plan).spans).toEqual([
      { start: 0, length: 0 },
      { start: 0, length: 2 },
    ]);
  });

  it('declares its choice as the top-k of one signal', () => {
    const { at, rule, requires } = fastv({ layer: 2, keepCount: 5, rows: 'mean' });
    expect({ at, rule, requires }).toEqual({
      at: [beforeLanguageLayer(2)],
      rule: { rule: 'top-k', score: 'attention', budget: { keepCount: 5 } },
      requires: { attention: promptAttention({ layer: 'before', rows: 'mean' }) },
    });
  });

  it('counts layers from the end too', () => {
    expect(fastv({ layer: -2 }).at).toEqual([beforeLanguageLayer(-2)]);
  });

  it('is the official code at K = 3, keeping a quarter, unless told otherwise', async () => {
    expect(fastvEntry.options.map(({ option, default: value }) => [option, value])).toEqual([
      ['layer', '3'],
      ['keepRatio', '0.25'],
      ['keepCount', ''],
      ['rows', 'last'],
    ]);
    expect(fastv().at).toEqual([beforeLanguageLayer(3)]);
    expect(fastv().rule).toEqual({ rule: 'top-k', score: 'attention', budget: { keepRatio: 0.25 } });
    expect(await keep({})).toEqual([5]); // 1.75
  });

  it.each([
    [{ layer: 0 }, 'layer must be a whole number'],
    [{ layer: 1.5 }, 'layer must be a whole number'],
    [{ layer: NaN }, 'layer must be a whole number'],
    [{ layer: '2' }, 'layer must be a whole number'],
    [{ rows: 'first' }, "rows must be 'last' or 'mean'"],
    [{ attentionMass: 0.8 }, 'option must be one of layer, keepRatio, keepCount, rows'],
    [{ budget: { keepRatio: 0.5 } }, 'option must be one of layer, keepRatio, keepCount, rows'],
    [{ keepRatio: 0.5, keepCount: 5 }, 'keepRatio and keepCount must be given one at a time'],
  ])('refuses %j', (options, message) => {
    expect(() => fastv(options as FastvOptions)).toThrow(InvalidArgumentError);
    expect(() => fastv(options as FastvOptions)).toThrow(message);
  });

  it('is made from text', () => {
    const { name, at, rule } = fastvEntry.create({ layer: '2', count: '128', rows: 'mean' });
    expect({ name, at }).toEqual({ name: fastvEntry.name, at: [beforeLanguageLayer(2)] });
    expect(rule).toMatchObject({ rule: 'top-k', budget: { keepCount: 128 } });
  });
});
