/** On wasm and cpu; on those that FOVEATE_TFJS_BACKENDS names, resolved from the folder FOVEATE_TFJS_FROM, where they are set. */
import { FoveateError, mergePlan, selectionPlan, type TokenReducer, type VisionReducer } from '@foveate/core';
import {
  backendConformance,
  onBackend,
  reducerConformance,
  reductionConformance,
  type ConformanceCase,
} from '@foveate/core/testing';
import { createFastv } from '@foveate/fastv';
import { createFopruRank } from '@foveate/fopru-rank';
import { createFopruRow } from '@foveate/fopru-row';
import { createPooling, createRandom, createUniform } from '@foveate/pooling';
import { createPrumerge, createPrumergePlus } from '@foveate/prumerge';
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
  createFopruRank({ budget }),
  createFopruRow({ budget }),
  createPrumerge(),
  createPrumerge({ budget, preset: 'paper' }),
  createPrumergePlus(),
  createPrumergePlus({ budget }),
  createPooling(),
  createPooling({ mode: 'max' }),
  createPooling({ window: '1x4' }),
  createUniform({ budget }),
  createRandom({ budget }),
  createFastv({ budget }),
];

/** The suite of each reducer, which its own tests run on plain JS, with its signals on the backend. */
const suites: Record<string, () => ConformanceCase[]> = {
  'fopru-rank': () =>
    reducerConformance({
      create: (options) => onBackend(createFopruRank(options), tfjsBackend),
      ranks: 'tokens',
    }),
  'fopru-row': () =>
    reducerConformance({
      create: (options) => onBackend(createFopruRow(options), tfjsBackend),
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
      create: (options) => onBackend(createPrumerge(options), tfjsBackend),
      ranks: 'tokens',
      selects: false,
      ascending: false,
    }),
  'prumerge-plus': () =>
    reducerConformance({
      create: (options) => onBackend(createPrumergePlus(options), tfjsBackend),
      selects: false,
      ascending: false,
    }),
  pooling: () =>
    reducerConformance({
      create: () => onBackend(createPooling(), tfjsBackend),
      budgets: [],
      needsGrid: true,
      selects: false,
    }),
  uniform: () =>
    reducerConformance({
      create: (options) => onBackend(createUniform(options), tfjsBackend),
      needsGrid: true,
    }),
  random: () => reducerConformance({ create: (options) => onBackend(createRandom(options), tfjsBackend) }),
  fastv: () =>
    reducerConformance({
      create: (options) => onBackend(createFastv(options), tfjsBackend),
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
    const keys = tf.tensor2d([1e30, 0, 1e-30, 1e-30, 0, 5], [3, 2]);
    expect([...(await tfjsBackend.nearestKeys(keys, Uint32Array.of(1), 2))]).toEqual([0, 2]);
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
    tf.dispose([keys, merged]);
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
  const keys = tf.randomUniform([batch, length, channels], -1, 1, 'float32', 2);
  const features = tf.randomUniform([batch, length, channels], -1, 1, 'float32', 3);
  const broken = tf.tidy(() => tf.div(tf.zerosLike(attention), 0)); // NaN
  const infinite = tf.fill([batch, length, channels], Infinity);
  const first = [attention, keys, features].map((tensor) => tf.slice(tensor, 0, 1));
  const [attention1, keys1, features1] = first;
  const flat = tf.reshape(features1, [length, channels]);
  const grid = { rows: 4, columns: 4 };
  const throwing: VisionReducer = {
    ...createUniform(),
    plan: async () => {
      throw new FoveateError('no plan');
    },
  };
  const visionReducers = reducers.filter(({ stage }) => stage === 'vision');
  const working: ((reducer: TokenReducer) => Promise<unknown>)[] = [
    async (reducer) =>
      (await reduce(reducer, { features: features1, attention: attention1, keys: keys1, grid })).features,
    async (reducer) =>
      (await reduceBatch(reducer, { features, attention, keys, grid })).map(
        (reduction) => reduction.features,
      ),
    async (reducer) => {
      const padded = await reducePadded(reducer, { features, attention, keys, grid });
      return [padded.features, padded.mask];
    },
    async () => select(flat, [3, 1]),
    async () => applyPlan(flat, mergePlan([{ sources: [0, 1], weights: [0.5, 0.5] }], length)),
  ];
  const failing: (() => Promise<unknown>)[] = [
    async () => reduce(createFopruRank(), { features: features1, attention: broken, grid }),
    async () => reduceBatch(createFopruRank(), { features, attention: broken }),
    async () => reducePadded(createPrumerge({ budget }), { features, attention, keys: infinite }),
    async () => reduce(createPrumerge(), { features: features1, attention: attention1 }), // no keys
    async () => reduceBatch(createPooling(), { features }), // no grid
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
      tf.dispose([attention, keys, features, broken, infinite, flat, ...first]);
    },
  };
}
