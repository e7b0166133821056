/**
 * On wasm and cpu; on those that FOVEATE_TFJS_BACKENDS names, resolved from the folder FOVEATE_TFJS_FROM,
 * where they are set.
 */
import {
  features as encoderFeatures,
  FoveateError,
  keys,
  mergePlan,
  selectionPlan,
  type TokenReducer,
  type TokenSource,
} from '@foveate/core';
import {
  backendConformance,
  onBackend,
  reducerConformance,
  reductionConformance,
  type ConformanceCase,
} from '@foveate/core/testing';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { fopruRow } from '@foveate/fopru-row';
import { random, uniform } from '@foveate/baselines';
import { pooling } from '@foveate/pooling';
import { prumerge, prumergePlus } from '@foveate/prumerge';
import { vispruner } from '@foveate/vispruner';
import { visionzip } from '@foveate/visionzip';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it, test } from 'vitest';
import { applyPlan, select } from './apply-plan.js';
import { tfjsBackend } from './backend.js';
import { loadBackend, type BackendName } from './load-backend.js';
import { reduce, reduceBatch, reducePadded } from './reduce.js';

const from = process.env.FOVEATE_TFJS_FROM;
const names = (process.env.FOVEATE_TFJS_BACKENDS ?? 'wasm,cpu').split(',') as BackendName[];

const budget = { keepRatio: 0.4 };
const reducers: readonly TokenReducer[] = [
  fopruRank({ ...budget }),
  fopruRow({ ...budget }),
  prumerge(),
  prumerge({ ...budget, preset: 'paper' }),
  prumergePlus(),
  prumergePlus({ ...budget }),
  visionzip({ ...budget }),
  visionzip({ ...budget, preset: 'official-code' }),
  vispruner({ ...budget }),
  pooling(),
  pooling({ mode: 'max' }),
  pooling({ window: '1x4' }),
  uniform({ ...budget }),
  random({ ...budget }),
  fastv({ ...budget }),
];

const tokens = (source: TokenSource): TokenSource => onBackend(source, tfjsBackend);

/** The suite of each reducer, which its own tests run on plain JS, with its signals on the backend. */
const suites: Record<string, () => ConformanceCase[]> = {
  'fopru-rank': () =>
    reducerConformance({
      create: fopruRank,
      tokens,
      ranks: 'tokens',
    }),
  'fopru-row': () =>
    reducerConformance({
      create: fopruRow,
      tokens,
      ranks: 'rows',
      needsGrid: true,
      expectedLength: (asked, { length, grid: { rows, columns } }) => {
        if ('keepRatio' in asked) return Math.max(1, Math.floor(rows * asked.keepRatio + 1e-9)) * columns;
        return asked.keepCount >= length
          ? length
          : Math.max(1, Math.floor(asked.keepCount / columns)) * columns;
      },
    }),
  prumerge: () =>
    reducerConformance({
      create: prumerge,
      tokens,
      ranks: 'tokens',
      selects: false,
      ascending: false,
    }),
  'prumerge-plus': () =>
    reducerConformance({
      create: prumergePlus,
      tokens,
      selects: false,
      ascending: false,
    }),
  visionzip: () =>
    reducerConformance({
      create: visionzip,
      tokens,
      selects: false,
      ascending: false,
    }),
  vispruner: () => reducerConformance({ create: vispruner, tokens }),
  pooling: () =>
    reducerConformance({
      create: () => pooling(),
      tokens,
      budgets: [],
      needsGrid: true,
      selects: false,
    }),
  uniform: () =>
    reducerConformance({
      create: uniform,
      tokens,
      needsGrid: true,
    }),
  random: () => reducerConformance({ create: random, tokens }),
  fastv: () =>
    reducerConformance({
      create: fastv,
      tokens,
      ranks: 'tokens',
    }),
};

describe.each(names)('%s', (name) => {
  beforeAll(async () => {
    const loaded = await loadBackend({ prefer: [name], ...(from !== undefined && { from }) });
    expect(loaded.name).toBe(name);
  });

  describe('conforms', () => {
    const create = (): typeof tfjsBackend => tfjsBackend;
    for (const { name, run } of backendConformance({ create })) test(name, run);
    for (const { name, run } of reductionConformance({ create, reducers })) test(name, run);
  });

  describe.each(Object.keys(suites))('%s conforms', (reducer) => {
    for (const { name, run } of suites[reducer]()) test(name, run);
  });

  it('takes keys of any length, and merges as many as there are', async () => {
    const rows = tf.tensor2d([1e30, 0, 1e-30, 1e-30, 0, 5], [3, 2]);
    expect([...(await tfjsBackend.nearest(rows, Uint32Array.of(1), 2))]).toEqual([0, 2]);
    const all = Array.from({ length: 40 }, (_, token) => token);
    const plan = mergePlan(
      [
        { sources: all, weights: all.map(() => 0.5) },
        { sources: [7], weights: [1] },
      ],
      40,
    );
    const merged = applyPlan(tf.tensor2d(all, [40, 1], 'float32'), plan);
    expect([...(await merged.data())]).toEqual([390, 7]); // 39 * 40 / 2 / 2
    tf.dispose([rows, merged]);
  });

  it('leaves no tensor behind: 1,000 calls of all kinds, 50 at once, a third of them failing', async () => {
    const fixed = tf.memory().numTensors;
    const calls = createCalls();
    const before = tf.memory().numTensors;
    let failed = 0;
    for (let round = 0; round < 20; round++) {
      const running = Array.from({ length: 50 }, (_, i) => calls.run(round * 50 + i));
      for (const result of await Promise.allSettled(running)) {
        if (result.status === 'fulfilled') tf.dispose(result.value as tf.TensorContainer);
        else if (FoveateError.isInstance(result.reason)) failed++;
        else throw result.reason;
      }
      expect(tf.memory().numTensors).toBe(before);
    }
    expect(failed).toBe(Math.floor(1000 / 3));
    calls.dispose();
    expect(tf.memory().numTensors).toBe(fixed);
  });
});

/** Calls by number; each third of them fails, in one of the ways a caller can make it fail. */
function createCalls(): { run: (index: number) => Promise<unknown>; dispose: () => void } {
  const [batch, heads, length, channels] = [3, 2, 16, 4];
  const side = length + 1;
  const attention = tf.tidy(() =>
    tf.softmax(tf.randomUniform([batch, heads, side, side], 0, 3, 'float32', 1)),
  );
  const rows = tf.randomUniform([batch, length, channels], -1, 1, 'float32', 2);
  const features = tf.randomUniform([batch, length, channels], -1, 1, 'float32', 3);
  const broken = tf.tidy(() => tf.div(tf.zerosLike(attention), 0)); // NaN
  const infinite = tf.fill([batch, length, channels], Infinity);
  const first = [attention, rows, features].map((tensor) => tf.slice(tensor, 0, 1));
  const [attention1, rows1, features1] = first;
  const wide = [keys(), keys({ heads: 'mean' }), encoderFeatures()];
  const signals = wide.map((request) => ({ ...request, values: rows }));
  const signals1 = wide.map((request) => ({ ...request, values: rows1 }));
  const flat = tf.reshape(features1, [length, channels]);
  const grid = { rows: 4, columns: 4 };
  const throwing: TokenReducer = {
    ...uniform(),
    plan: async () => {
      throw new FoveateError('no plan');
    },
  };
  const visionReducers = reducers.filter(({ at }) => at[0].tower === 'vision');
  const working: ((reducer: TokenReducer) => Promise<unknown>)[] = [
    async (reducer) =>
      (await reduce(reducer, { features: features1, attention: attention1, signals: signals1, grid }))
        .features,
    async (reducer) =>
      (await reduceBatch(reducer, { features, attention, signals, grid })).map(
        (reduction) => reduction.features,
      ),
    async (reducer) => {
      const padded = await reducePadded(reducer, { features, attention, signals, grid });
      return [padded.features, padded.mask];
    },
    async () => select(flat, [3, 1]),
    async () => applyPlan(flat, mergePlan([{ sources: [0, 1], weights: [0.5, 0.5] }], length)),
  ];
  const failing: (() => Promise<unknown>)[] = [
    async () => reduce(fopruRank(), { features: features1, attention: broken, grid }),
    async () => reduceBatch(fopruRank(), { features, attention: broken }),
    async () =>
      reducePadded(prumerge({ ...budget }), {
        ...{ features, attention },
        signals: [{ ...keys(), values: infinite }],
      }),
    async () => reduce(prumerge(), { features: features1, attention: attention1 }), // no keys
    async () => reduceBatch(pooling(), { features }), // no grid
    async () => reduceBatch(throwing, { features, grid }),
    async () => applyPlan(flat, selectionPlan([0], length + 1)),
    async () => select(flat, [length]),
  ];
  return {
    run: (index) => {
      const turn = Math.floor(index / 3);
      return index % 3 === 2
        ? failing[turn % failing.length]()
        : working[index % working.length](visionReducers[turn % visionReducers.length]);
    },
    dispose: () => {
      tf.dispose([attention, rows, features, broken, infinite, flat, ...first]);
    },
  };
}
