import { classAttention, createTokens, planTokens } from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { vispruner } from './vispruner.js';

describe('conforms', () => {
  const cases = reducerConformance({ create: vispruner, ranks: 'tokens' });
  for (const { name, run } of cases) test(name, run);
});

describe('vispruner', () => {
  const attention = { ...classAttention(), values: Float32Array.of(0.1, 0.4, 0.2, 0.3) };
  const tokens = createTokens({ length: 4, signals: [attention] });

  it('keeps the most attended tokens, in their order', async () => {
    const { sources } = await planTokens(vispruner({ keepCount: 2 }), tokens);
    expect([...sources]).toEqual([1, 3]);
  });

  it('keeps a quarter unless told otherwise', async () => {
    expect([...(await planTokens(vispruner(), tokens)).sources]).toEqual([1]);
  });
});
