import {
  attentionReceived,
  beforeVisionLayer,
  classAttention,
  createTokens,
  InvalidArgumentError,
  planTokens,
  SignalUnavailableError,
  type TokenReducer,
  type TokenSource,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { earlyDrop, earlyDropEntry, type EarlyDropOptions } from './early-drop.js';

for (const signal of ['class', 'received'] as const) {
  describe(`conforms: signal ${signal}`, () => {
    const create = (options: EarlyDropOptions): TokenReducer => earlyDrop({ ...options, signal });
    for (const { name, run } of reducerConformance({ create, ranks: 'tokens' })) test(name, run);
  });
}

/** Five patches: the class attention of layers 7, 2 and 8, and the attention received in layer 7. */
const tokens: TokenSource = createTokens({
  length: 5,
  signals: [
    {
      ...classAttention({ layer: 7, heads: 'mean' }),
      values: Float32Array.of(0.1, 0.3, 0.1, 0.2, 0.1),
    },
    { ...classAttention({ layer: 2, heads: 'mean' }), values: Float32Array.of(0, 0, 0, 0, 1) },
    { ...classAttention({ layer: 8, heads: 'mean' }), values: Float32Array.of(1, 0, 0, 0, 0) },
    { ...attentionReceived({ layer: 7 }), values: Float32Array.of(0.5, 0.1, 0.4, 0.1, 0.2) },
  ],
});

const keep = async (options: EarlyDropOptions): Promise<number[]> => [
  ...(await planTokens(earlyDrop(options), tokens)).sources,
];

describe('earlyDrop', () => {
  it('keeps what the class token of layer 7 attends to most, in their order', async () => {
    expect(await keep({ keepCount: 2 })).toEqual([1, 3]);
    expect(await keep({ keepRatio: 0.8 })).toEqual([0, 1, 2, 3]); // .1 three times: at 0, 2 and 4
    expect(await keep({ keepRatio: 0.01 })).toEqual([1]); // at least one
  });

  it('looks at the layer before its own, and at what it is told to', async () => {
    expect(await keep({ keepCount: 1, layer: 3 })).toEqual([4]);
    expect(await keep({ keepCount: 2, signal: 'received' })).toEqual([0, 2]);
    await expect(keep({ keepCount: 1, layer: 3, signal: 'received' })).rejects.toThrow(
      SignalUnavailableError,
    );
  });

  it('declares its choice as the top-k of one signal', () => {
    const { at, rule, requires } = earlyDrop({ layer: -4, keepCount: 5, signal: 'received' });
    expect({ at, rule, requires }).toEqual({
      at: [beforeVisionLayer(-4)],
      rule: { rule: 'top-k', score: 'attention', budget: { keepCount: 5 } },
      requires: { attention: attentionReceived({ layer: 'before' }) },
    });
  });

  it('acts before a layer that has one before it', () => {
    expect(() => earlyDrop({ layer: 0 })).toThrow(InvalidArgumentError);
    expect(() => earlyDrop({ signal: 'given' as 'class' })).toThrow(/signal .*'class' or 'received'.*given/);
  });

  it('is made from text', () => {
    expect(earlyDropEntry.create({ layer: '2', signal: 'received' }).at).toEqual([beforeVisionLayer(2)]);
  });
});
