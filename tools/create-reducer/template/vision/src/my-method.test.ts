import { createVisualTokens } from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { createMyMethod } from './my-method.js';

describe('conforms', () => {
  const cases = reducerConformance({ create: createMyMethod, ranks: 'tokens' });
  for (const { name, run } of cases) test(name, run);
});

describe('createMyMethod', () => {
  const values = Float32Array.of(0.1, 0.4, 0.2, 0.3);
  const tokens = createVisualTokens({ length: 4, signals: [{ signal: 'classAttention', values }] });

  it('keeps the most attended tokens, in their order', async () => {
    const { sources } = await createMyMethod({ budget: { keepCount: 2 } }).plan(tokens);
    expect([...sources]).toEqual([1, 3]);
  });

  it('keeps a quarter unless told otherwise', async () => {
    expect([...(await createMyMethod().plan(tokens)).sources]).toEqual([1]);
  });
});
