import {
  attentionReceived,
  atFeatures,
  beforeLanguageLayer,
  budgetOf,
  budgetOptions,
  createTokens,
  defineOptions,
  defineReducer,
  identityPlan,
  InvalidArgumentError,
  maxPlan,
  mergePlan,
  planTokens,
  projectedFeatures,
  resolveBudget,
  selectionPlan,
  topIndicesAscending,
  UnsupportedReducerError,
  type OptionsOf,
  type ReductionPlan,
  type TokenReducer,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { mergeAround, restore, restoreEntry } from './restore.js';

const options = defineOptions(budgetOptions({ keepRatio: 0.25 }));

/** Keeps the tokens that receive most attention. */
function mostAttended(given: OptionsOf<typeof options.schema> = {}): TokenReducer {
  const budget = budgetOf(options.check(given)) ?? { keepRatio: 0.25 };
  return defineReducer({
    name: 'most-attended',
    at: [atFeatures],
    requires: { received: attentionReceived() },
    plan: async ({ length, signals }) => {
      const { count, warnings } = resolveBudget(budget, length);
      return selectionPlan(topIndicesAscending(signals.received, count), length, { warnings });
    },
  });
}

describe('conforms', () => {
  const cases = reducerConformance({
    create: (given) => restore(mostAttended(given)),
    expectedLength: (budget, { length }) => Math.min(length, 2 * resolveBudget(budget, length).count),
    selects: false,
  });
  for (const { name, run } of cases) test(name, run);
});

/** A method with one plan. */
function making(plan: ReductionPlan): TokenReducer {
  return defineReducer({ name: 'fixed', at: [atFeatures], requires: {}, plan: async () => plan });
}

/** Tokens with those directions in the plane, as projected features. */
function tokensOf(rows: readonly (readonly [number, number])[]) {
  const values = Float32Array.from(rows.flat());
  return createTokens({ length: rows.length, signals: [{ ...projectedFeatures(), values }] });
}

/**
 * Token 1 is kept. Of the others 0 and 2 lie at (1, 0), 3 and 4 at (0, 1), 5 at (.6, .8): densities 2.6, 2.6,
 * 2.8, 2.8, 3.8. 5 is the densest, of score 3.8; 3 and 4 are .8 like it: 2.8 * .2; 0 and 2 are .6 like it, and 0
 * like the others that are denser: 2.6 * .4. So the anchors of two groups are 0 and 5.
 */
const six = tokensOf([
  [1, 0],
  [5, 5],
  [2, 0],
  [0, 1],
  [0, 3],
  [0.6, 0.8],
]);

/** Sources and weights of each output. */
function outputsOf({ offsets, sources, weights, anchors }: ReductionPlan) {
  return Array.from(anchors, (anchor, m) => ({
    anchor,
    sources: [...sources.subarray(offsets[m], offsets[m + 1])],
    weights: [...(weights?.subarray(offsets[m], offsets[m + 1]) ?? [1])],
  }));
}

const third = Math.fround(1 / 3);

describe('what the method leaves out', () => {
  it('is merged around dense and different tokens, by plain means, in the order of their medians', async () => {
    const plan = await planTokens(restore(making(selectionPlan([1], 6)), { merged: 2 }), six);
    expect(outputsOf(plan)).toEqual([
      { anchor: 0, sources: [0, 2], weights: [0.5, 0.5] },
      { anchor: 1, sources: [1], weights: [1] },
      { anchor: 4, sources: [3, 4, 5], weights: [third, third, third] },
    ]);
  });

  it('is merged into as many as the method keeps', async () => {
    const { outputLength, sources } = await planTokens(restore(making(selectionPlan([1], 6))), six);
    expect(outputLength).toBe(2);
    expect([...sources].sort()).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it('stays as it is where there is room for all of it', async () => {
    const plan = await planTokens(restore(making(selectionPlan([1], 6)), { merged: 9 }), six);
    expect(outputsOf(plan).map(({ sources }) => sources)).toEqual([[0], [1], [2], [3], [4], [5]]);
  });

  it('may be nothing: then the plan is the method’s own', async () => {
    const merged = mergePlan([{ sources: [0, 1, 2, 3, 4, 5], weights: [2, 0, 0, 0, 0, 1] }], 6);
    expect(outputsOf(await planTokens(restore(making(merged)), six))).toEqual(outputsOf(merged));
    expect(outputsOf(await planTokens(restore(making(identityPlan(6))), six))).toHaveLength(6);
  });

  it('goes beside merged tokens of the method, whose weights stay', async () => {
    const pair = mergePlan([{ sources: [1, 2], weights: [0.25, 2] }], 6);
    expect(outputsOf(await planTokens(restore(making(pair)), six))).toEqual([
      { anchor: 2, sources: [1, 2], weights: [0.25, 2] },
      { anchor: 3, sources: [0, 3, 4, 5], weights: [0.25, 0.25, 0.25, 0.25] },
    ]);
  });

  it('cannot be merged beside maxima', async () => {
    const reducer = restore(making(maxPlan([[0, 1]], 6)));
    await expect(planTokens(reducer, six)).rejects.toThrow(UnsupportedReducerError);
  });
});

it('where two are equally dense, neither is the other’s denser one', () => {
  // All alike: nobody has a denser token, so that all score their density, and the first are anchors.
  expect(mergeAround(new Float32Array(16).fill(1), 2)).toEqual([[0, 2, 3], [1]]);
});

it('says how attention is calibrated', () => {
  expect(restore(mostAttended()).calibration).toEqual({ distances: true, firstLayer: 'uniform' });
  const alone = restore(mostAttended(), { distances: 'off', firstLayer: 'own' });
  expect(alone.calibration).toEqual({ distances: false, firstLayer: 'own' });
  expect(alone.name).toBe('most-attended-restored');
});

it('reads what the method reads', () => {
  expect(Object.keys(restore(mostAttended()).requires)).toContain('received');
});

it('is for methods on the features', () => {
  const inside = { ...mostAttended(), at: [beforeLanguageLayer(2)] };
  expect(() => restore(inside)).toThrow(InvalidArgumentError);
  expect(() => restore(mostAttended(), { merged: -1 })).toThrow(InvalidArgumentError);
});

it('is known by its name', () => {
  const { calibration } = restoreEntry.modify(mostAttended(), { distances: 'off', merged: '3' });
  expect(calibration).toEqual({ distances: false, firstLayer: 'uniform' });
  expect(restoreEntry.options.map(({ name }) => name)).toEqual(['merged', 'distances', 'firstLayer']);
});
