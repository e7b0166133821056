import { describe, expect, it, test } from 'vitest';
import type { TensorBackend } from '../backend.js';
import { defineReducer, type VisionReducer } from '../reducer.js';
import { selectionPlan } from '../plan.js';
import { referenceBackend, type HostTensor } from '../reference-backend.js';
import { topIndices } from '../top-indices.js';
import { onBackend } from './on-backend.js';
import { reducerConformance } from './reducer-conformance.js';
import { reductionConformance } from './reduction-conformance.js';

/** Keeps the two most attended tokens and the nearest to the first. */
const reducer = defineReducer<VisionReducer>({
  specificationVersion: 1,
  name: 'attended',
  stage: 'vision',
  requires: [{ signal: 'attentionReceived' }, { signal: 'keys' }],
  plan: async (tokens) => {
    const scores = await tokens.signal({ signal: 'attentionReceived' });
    const top = topIndices(scores, Math.min(2, tokens.length));
    const nearest = await tokens.nearest(top.slice(0, 1), 1);
    return selectionPlan(new Uint32Array(new Set([...top, ...nearest])), tokens.length);
  },
});

async function failures(change: Partial<TensorBackend<HostTensor>>): Promise<number> {
  const create = (): TensorBackend<HostTensor> => ({ ...referenceBackend, ...change });
  const runs = reductionConformance({ create, reducers: [reducer] }).map(({ run }) => run());
  return (await Promise.allSettled(runs)).filter(({ status }) => status === 'rejected').length;
}

describe('reductionConformance', () => {
  it('passes the reference', async () => {
    expect(await failures({})).toBe(0);
  });

  it.each<[string, Partial<TensorBackend<HostTensor>>]>([
    [
      'given and received exchanged',
      {
        marginals: async (tensor, options) => {
          const { given, received } = await referenceBackend.marginals(tensor, options);
          return { given: received, received: given };
        },
      },
    ],
    [
      'the farthest in place of the nearest',
      {
        nearestKeys: async (keys, of, k) => (await referenceBackend.nearestKeys(keys, of, 1000)).slice(-k),
      },
    ],
    [
      'features off by 1e-3',
      {
        applyPlan: async (features, plan) => {
          const { data, shape } = await referenceBackend.applyPlan(features, plan);
          return { data: data.map((value) => value + 1e-3), shape };
        },
      },
    ],
  ])('fails a backend with %s', async (_, change) => {
    expect(await failures(change)).toBe(1);
  });
});

describe('a reducer on a backend conforms', () => {
  const create = (): VisionReducer => onBackend(reducer, referenceBackend);
  const cases = reducerConformance({ create, budgets: [], ascending: false });
  for (const { name, run } of cases) test(name, run);
});
