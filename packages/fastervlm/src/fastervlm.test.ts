import {
  atFeatures,
  classAttention,
  createTokens,
  planTokens,
  requestsOf,
  SignalUnavailableError,
  type TokenSource,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { fastervlm } from './fastervlm.js';

describe('conforms', () => {
  const cases = reducerConformance({ create: fastervlm, ranks: 'tokens' });
  for (const { name, run } of cases) test(name, run);
});

/** [4] */
function tokensWith(values: readonly number[], heads: 'mean' | 'joined' = 'mean'): TokenSource {
  const attention = { ...classAttention({ heads }), values: Float32Array.from(values) };
  return createTokens({ length: values.length, signals: [attention] });
}

describe('fastervlm', () => {
  it('keeps the most attended tokens, in their order', async () => {
    const { sources } = await planTokens(fastervlm({ keepCount: 2 }), tokensWith([0.1, 0.4, 0.2, 0.3]));
    expect([...sources]).toEqual([1, 3]);
  });

  it('keeps a quarter unless told otherwise', async () => {
    expect([...(await planTokens(fastervlm(), tokensWith([0.1, 0.4, 0.2, 0.3]))).sources]).toEqual([1]);
  });

  it('of equally attended tokens keeps the first', async () => {
    const { sources } = await planTokens(fastervlm({ keepCount: 2 }), tokensWith([0.2, 0.3, 0.2, 0.2]));
    expect([...sources]).toEqual([0, 1]);
  });

  it('reads the mean over the heads, or the one head that it is told to', async () => {
    expect(requestsOf(fastervlm().requires, atFeatures)).toEqual([classAttention({ heads: 'mean' })]);
    const joined = fastervlm({ keepCount: 1, heads: 'joined' });
    expect([...(await planTokens(joined, tokensWith([0, 1, 0], 'joined'))).sources]).toEqual([1]);
    await expect(planTokens(joined, tokensWith([0, 1, 0]))).rejects.toThrow(SignalUnavailableError);
  });

  it('has a rule that says the same', () => {
    expect(fastervlm({ keepCount: 3 }).rule).toEqual({
      rule: 'top-k',
      score: 'attention',
      budget: { keepCount: 3 },
    });
  });

  it('knows two kinds of heads', () => {
    expect(() => fastervlm({ heads: 'max' as 'mean' })).toThrow(/heads .*'mean' or 'joined'.*max/);
  });
});
