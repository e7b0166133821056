import { describe, expect, it } from 'vitest';
import { carryTokens } from './tokens-behind-plan.js';
import { InvalidSignalError, SignalUnavailableError } from './errors.js';
import { identityPlan, maxPlan, mergePlan, selectionPlan, type ReductionPlan } from './plan.js';
import { attentionGiven } from './signals/attention-given.js';
import { attentionMap } from './signals/attention-map.js';
import { attentionReceived } from './signals/attention-received.js';
import { attentionShare } from './signals/attention-share.js';
import { classAttention } from './signals/class-attention.js';
import { defineSignal, type SignalRequest } from './signals/define-signal.js';
import { features } from './signals/features.js';
import { keys } from './signals/keys.js';
import { projectedFeatures } from './signals/projected-features.js';
import { promptAttention } from './signals/prompt-attention.js';
import { textEmbeddings } from './signals/text-embeddings.js';
import { createTokens } from './token-source.js';

/** [N, D] of a method's own, summed in a merge. */
const evidence = defineSignal({
  name: 'evidence',
  of: 'features',
  shape: ['N', 'D'],
  range: 'real',
  carry: 'sum',
});

const grid = { rows: 2, columns: 2 };
const rows = Float32Array.of(1, 0, 0, 1, 1, 1, -1, 0); // [4, 2]
const tokens = createTokens({
  length: 4,
  grid,
  imageHash: 'image',
  signals: [
    { ...attentionGiven(), values: Float32Array.of(0.1, 0.2, 0.3, 0.4) },
    { ...attentionReceived(), values: Float32Array.of(0.5, 0.25, 0.125, 1) },
    { ...classAttention({ layer: -1 }), values: Float32Array.of(1, 2, 4, 8) },
    { ...promptAttention({ layer: 2 }), values: Float32Array.of(8, 4, 2, 1) },
    { ...keys(), values: rows },
    { ...features(), values: rows },
    { ...projectedFeatures(), values: rows },
    { ...evidence(), values: rows },
    { ...attentionShare(), values: Float32Array.of(0.5, 0.6, 0.7) },
    { ...textEmbeddings(), values: Float32Array.of(5, 6, 7, 8, 9, 10) }, // [3, 2]
    { ...attentionMap(), values: new Float32Array(16).fill(0.25) }, // [1, 4, 4]
  ],
});

const read = async (plan: ReductionPlan, request: SignalRequest): Promise<number[]> => [
  ...(await carryTokens(tokens, plan).signal(request)),
];

const merged = mergePlan(
  [
    { sources: [0, 3], weights: [3, 1] },
    { sources: [2], weights: [0.125] },
  ],
  4,
);

describe('signals', () => {
  it('are restricted by a selection, in its order', async () => {
    const plan = selectionPlan([3, 1], 4);
    expect(await read(plan, attentionGiven())).toEqual([...Float32Array.of(0.4, 0.2)]);
    expect(await read(plan, attentionReceived())).toEqual([1, 0.25]);
    expect(await read(plan, keys())).toEqual([-1, 0, 0, 1]);
    expect(await read(plan, evidence())).toEqual([-1, 0, 0, 1]);
    expect(await read(plan, attentionShare())).toEqual([...Float32Array.of(0.5, 0.6, 0.7)]);
  });

  it('are summed or averaged in a merge, the averages with weights scaled to sum 1', async () => {
    expect(await read(merged, attentionReceived())).toEqual([1.5, 0.125]);
    expect(await read(merged, classAttention({ layer: -1 }))).toEqual([9, 4]);
    expect(await read(merged, promptAttention({ layer: 2 }))).toEqual([9, 2]);
    const given = await read(merged, attentionGiven()); // (3 * .1 + 1 * .4) / 4, .3
    expect(given[0]).toBeCloseTo(0.175, 7);
    expect(given[1]).toBeCloseTo(0.3, 7);
    for (const signal of [keys, features, projectedFeatures]) {
      expect(await read(merged, signal())).toEqual([0.5, 0, 1, 1]); // (3 * 1 - 1) / 4
    }
    expect(await read(merged, evidence())).toEqual([0, 0, 1, 1]); // row by row, whatever the weights
  });

  it('are averaged equally where weights sum to 0, and for a maximum', async () => {
    const cancelled = mergePlan([{ sources: [0, 1], weights: [1, -1] }], 4);
    expect(await read(cancelled, keys())).toEqual([0.5, 0.5]);
    expect(await read(maxPlan([[0, 1]], 4), keys())).toEqual([0.5, 0.5]);
    expect(await read(maxPlan([[0, 1]], 4), attentionReceived())).toEqual([0.75]);
  });

  it('about no single token stay as they are, though as many as tokens', async () => {
    for (const plan of [merged, selectionPlan([1], 4)]) {
      expect(await read(plan, textEmbeddings())).toEqual([5, 6, 7, 8, 9, 10]);
      expect(await read(plan, attentionShare())).toEqual([...Float32Array.of(0.5, 0.6, 0.7)]);
    }
  });

  it('that cannot follow their tokens are not available behind a plan', async () => {
    expect(await tokens.signal(attentionMap())).toHaveLength(16);
    const reading = read(selectionPlan([0, 1, 2], 4), attentionMap());
    await expect(reading).rejects.toThrow(SignalUnavailableError);
    await expect(reading).rejects.toThrow('attentionMap@features is not available: it cannot follow');
  });

  it('go by what a request says, whoever made it', async () => {
    expect(await read(merged, structuredClone(attentionReceived()))).toEqual([1.5, 0.125]);
  });

  it('answer nearest among what is left', async () => {
    const kept = carryTokens(tokens, selectionPlan([0, 1, 3], 4));
    // By angle from token 0: token 1 at 90 degrees, token 3 (now 2) at 180; token 2, at 45, is gone.
    expect([...(await kept.nearest(keys(), Uint32Array.of(0), 5))]).toEqual([1, 2]);
  });

  it('that are missing or wrong stay so', async () => {
    const kept = carryTokens(tokens, selectionPlan([0], 4));
    await expect(kept.signal(classAttention())).rejects.toThrow(SignalUnavailableError);
    const wrong = createTokens({
      length: 2,
      signals: [{ ...attentionGiven(), values: Float32Array.of(NaN, 1) }],
    });
    const carried = carryTokens(wrong, selectionPlan([1], 2));
    await expect(carried.signal(attentionGiven())).rejects.toThrow(InvalidSignalError);
  });
});

describe('sizes', () => {
  it('are absent as long as tokens are only picked', () => {
    expect(carryTokens(tokens, selectionPlan([3, 1], 4)).sizes).toBeUndefined();
    expect(carryTokens(tokens, identityPlan(4)).sizes).toBeUndefined();
  });

  it('are the sum of what was merged, whatever the weights', () => {
    expect(carryTokens(tokens, merged).sizes).toEqual(Float32Array.of(2, 1));
    expect(carryTokens(tokens, maxPlan([[0, 1, 2], [3]], 4)).sizes).toEqual(Float32Array.of(3, 1));
  });

  it('follow their tokens from then on', () => {
    const first = carryTokens(tokens, maxPlan([[0, 1], [2], [3]], 4)); // 2, 1, 1
    expect(carryTokens(first, selectionPlan([2, 0], 3)).sizes).toEqual(Float32Array.of(1, 2));
    expect(carryTokens(first, maxPlan([[0, 2]], 3)).sizes).toEqual(Float32Array.of(3));
  });
});

describe('the grid', () => {
  it('survives the identity and a plan that names one, nothing else', () => {
    const named = { grid: { rows: 1, columns: 2 } };
    expect(carryTokens(tokens, identityPlan(4)).grid).toEqual(grid);
    expect(carryTokens(tokens, selectionPlan([2, 3], 4, named)).grid).toEqual(named.grid);
    expect(carryTokens(tokens, selectionPlan([2, 3], 4)).grid).toBeUndefined();
    expect(carryTokens(tokens, selectionPlan([1, 0, 2, 3], 4)).grid).toBeUndefined();
  });
});

describe('spans', () => {
  const images = createTokens({
    length: 5,
    spans: [
      { start: 0, length: 2 },
      { start: 2, length: 1 },
      { start: 3, length: 2 },
    ],
  });

  it('follow the anchors; an image that lost all its tokens keeps an empty one', () => {
    expect(carryTokens(images, selectionPlan([0, 1, 4], 5)).spans).toEqual([
      { start: 0, length: 2 },
      { start: 2, length: 0 },
      { start: 2, length: 1 },
    ]);
  });

  it('refuse an order that mixes images', () => {
    expect(() => carryTokens(images, selectionPlan([3, 0], 5))).toThrow('plan.anchors');
  });
});

it('refuses a plan for another number of tokens', () => {
  expect(() => carryTokens(tokens, identityPlan(3))).toThrow('plan.inputLength');
});

it('keeps the hash of the image', () => {
  expect(carryTokens(tokens, selectionPlan([1], 4)).imageHash).toBe('image');
});
