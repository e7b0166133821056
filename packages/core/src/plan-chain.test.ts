import { describe, expect, it } from 'vitest';
import { selectionPlan } from './plan.js';
import { planChain, requestInModel } from './plan-chain.js';
import { defineReducer, type TokenReducer } from './reducer.js';
import { attentionReceived } from './signals/attention-received.js';
import { promptAttention } from './signals/prompt-attention.js';
import { textEmbeddings } from './signals/text-embeddings.js';
import { atFeatures } from './sites.js';
import { createTokens } from './token-source.js';
import { topIndicesAscending } from './top-indices.js';

const LAYERS = { vision: 5, language: 8 };

/** Keeps the `count` tokens that one layer of the encoder attends to most. */
function keeping(count: number, layer: number): TokenReducer {
  return defineReducer({
    name: 'keeping',
    at: [atFeatures],
    requires: { received: attentionReceived({ layer }) },
    plan: async ({ length, signals }) => selectionPlan(topIndicesAscending(signals.received, count), length),
  });
}

describe('planChain', () => {
  const values = Float32Array.of(0.1, 0.4, 0.3, 0.2);
  const signals = [{ ...attentionReceived({ layer: 3 }), values }];
  const tokens = createTokens({ length: 4, signals });

  it('gives a plan for each reducer, on what those before it left', async () => {
    const plans = await planChain([keeping(3, 3), keeping(1, 3)], tokens, atFeatures, LAYERS);
    expect(plans.map(({ sources }) => [...sources])).toEqual([[1, 2, 3], [0]]);
    expect(plans.map(({ inputLength }) => inputLength)).toEqual([4, 3]);
  });

  it('counts negative layers from the end of the tower, behind a reduction too', async () => {
    const plans = await planChain([keeping(2, -2), keeping(1, -2)], tokens, atFeatures, LAYERS);
    expect(plans.map(({ sources }) => [...sources])).toEqual([[1, 2], [0]]);
  });

  it('makes no plan without reducers', async () => {
    expect(await planChain([], tokens, atFeatures, LAYERS)).toEqual([]);
  });
});

describe('requestInModel', () => {
  it('counts in the tower of the signal, and leaves what counts from the start', () => {
    expect(requestInModel(attentionReceived({ layer: -1 }), LAYERS).layer).toBe(4);
    expect(requestInModel(promptAttention({ layer: -1 }), LAYERS).layer).toBe(7);
    expect(requestInModel(attentionReceived({ layer: 2 }), LAYERS).layer).toBe(2);
    expect(requestInModel(attentionReceived(), LAYERS).layer).toBe(attentionReceived().layer);
    expect(requestInModel(textEmbeddings(), LAYERS).layer).toBeUndefined();
  });
});
