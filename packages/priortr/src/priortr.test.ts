import { createTokens, planTokens, promptAttention } from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { priortr } from './priortr.js';

describe('conforms', () => {
  const cases = reducerConformance({ create: priortr, ranks: 'tokens' });
  for (const { name, run } of cases) test(name, run);
});

describe('priortr', () => {
  const attention = { ...promptAttention({ layer: 2 }), values: Float32Array.of(0.1, 0.4, 0.05, 0.2) };
  const tokens = createTokens({ length: 4, signals: [attention] });

  it('keeps what the layer below K attends to most, in their order', async () => {
    const { sources } = await planTokens(priortr({ layer: 3, keepCount: 2 }), tokens);
    expect([...sources]).toEqual([1, 3]);
  });

  it('keeps a quarter at layer 3 unless told otherwise', async () => {
    expect([...(await planTokens(priortr(), tokens)).sources]).toEqual([1]);
  });

  it('refuses a layer that no layer is below', () => {
    expect(() => priortr({ layer: 0 })).toThrow('layer must be a whole number from 1');
  });
});
