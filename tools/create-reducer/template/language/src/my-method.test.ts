import { createVisualTokens } from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { createMyMethod } from './my-method.js';

describe('conforms', () => {
  const cases = reducerConformance({ create: createMyMethod, ranks: 'tokens' });
  for (const { name, run } of cases) test(name, run);
});

describe('createMyMethod', () => {
  const values = Float32Array.of(0.1, 0.4, 0.05, 0.2);
  const signals = [{ signal: 'promptAttention', layer: 2, rows: 'last', values }] as const;
  const tokens = createVisualTokens({ length: 4, signals });

  it('keeps what the layer below K attends to most, in their order', async () => {
    const { sources } = await createMyMethod({ layer: 3, budget: { keepCount: 2 } }).plan(tokens);
    expect([...sources]).toEqual([1, 3]);
  });

  it('keeps a quarter at layer 3 unless told otherwise', async () => {
    expect([...(await createMyMethod().plan(tokens)).sources]).toEqual([1]);
  });

  it('refuses a layer that no layer is below', () => {
    expect(() => createMyMethod({ layer: 0 })).toThrow('layer must be a positive integer');
  });
});
