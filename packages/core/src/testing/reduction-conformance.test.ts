import { describe, expect, it, test } from 'vitest';
import type { TensorBackend } from '../backend.js';
import { selectionPlan } from '../plan.js';
import { defineReducer, type TokenReducer } from '../reducer.js';
import { referenceBackend, type HostTensor } from '../reference-backend.js';
import { attentionReceived } from '../signals/attention-received.js';
import { keys } from '../signals/keys.js';
import { atFeatures } from '../sites.js';
import { createTokens, similarityBy } from '../token-source.js';
import { topIndices } from '../top-indices.js';
import { onBackend } from './on-backend.js';
import { reducerConformance } from './reducer-conformance.js';
import { reductionConformance } from './reduction-conformance.js';

/** Keeps the two most attended tokens and the nearest to the first. */
const reducer = defineReducer({
  name: 'attended',
  at: [atFeatures],
  requires: { received: attentionReceived(), similar: similarityBy(keys()) },
  plan: async ({ length, signals: { received, similar } }) => {
    const top = topIndices(received, Math.min(2, length));
    const nearest = await similar.nearest(top.slice(0, 1), 1);
    return selectionPlan(new Uint32Array(new Set([...top, ...nearest])), length);
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
        nearest: async (rows, of, k) => (await referenceBackend.nearest(rows, of, 1000)).slice(-k),
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
  const cases = reducerConformance({
    create: () => reducer,
    tokens: (source) => onBackend(source, referenceBackend),
    budgets: [],
    ascending: false,
  });
  for (const { name, run } of cases) test(name, run);
});

describe('onBackend', () => {
  const tokens = createTokens({
    length: 3,
    imageHash: 'image',
    signals: [
      { ...attentionReceived(), values: Float32Array.of(0.5, 0.25, 0.75) },
      { ...keys(), values: Float32Array.of(1, 0, 0, 1, 1, 0.5) },
    ],
  });

  it('reads from tensors of the backend, and disposes every one', async () => {
    const held = new Set<HostTensor>();
    const asked: string[] = [];
    const backend: TensorBackend<HostTensor> = {
      ...referenceBackend,
      upload: (data, shape) => {
        const tensor = referenceBackend.upload(data, shape);
        held.add(tensor);
        return tensor;
      },
      download: async (tensor) => {
        asked.push(`download [${tensor.shape.join()}]`);
        return referenceBackend.download(tensor);
      },
      nearest: async (rows, of, k) => {
        asked.push(`nearest [${rows.shape.join()}]`);
        return referenceBackend.nearest(rows, of, k);
      },
      dispose: (tensor) => {
        expect(held.delete(tensor)).toBe(true);
      },
    };
    const on = onBackend(tokens, backend);
    expect([...(await on.signal(attentionReceived()))]).toEqual([0.5, 0.25, 0.75]);
    expect([...(await on.nearest(keys(), Uint32Array.of(0), 1))]).toEqual([2]);
    await expect(on.nearest(keys(), Uint32Array.of(0), 0)).rejects.toThrow('k must be');
    expect(asked).toEqual(['download [3]', 'nearest [3,2]', 'nearest [3,2]']);
    expect(held.size).toBe(0);
    expect(on.imageHash).toBe('image');
  });

  it('lets a reducer that a backend misleads fail', async () => {
    const blind = { ...referenceBackend, nearest: async () => Uint32Array.of(7) };
    const create = (): TokenReducer => reducer;
    const cases = reducerConformance({
      create,
      tokens: (source) => onBackend(source, blind),
      budgets: [],
      ascending: false,
    });
    const runs = await Promise.allSettled(cases.map(({ run }) => run()));
    expect(runs.some(({ status }) => status === 'rejected')).toBe(true);
  });
});
