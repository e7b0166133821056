import { describe, expect, it } from 'vitest';
import { carryTokens } from './carry-tokens.js';
import { InvalidSignalError, SignalUnavailableError } from './errors.js';
import { identityPlan, maxPlan, mergePlan, selectionPlan, type ReductionPlan } from './plan.js';
import type { SignalRequest } from './signals.js';
import { createVisualTokens } from './visual-tokens.js';

const grid = { rows: 2, columns: 2 };
const tokens = createVisualTokens({
  length: 4,
  grid,
  key: 'image',
  signals: [
    { signal: 'attentionGiven', values: Float32Array.of(0.1, 0.2, 0.3, 0.4) },
    { signal: 'attentionReceived', values: Float32Array.of(0.5, 0.25, 0.125, 1) },
    { signal: 'classAttention', layer: 'last', values: Float32Array.of(1, 2, 4, 8) },
    { signal: 'promptAttention', layer: 2, rows: 'last', values: Float32Array.of(8, 4, 2, 1) },
    { signal: 'keys', values: Float32Array.of(1, 0, 0, 1, 1, 1, -1, 0) },
    { signal: 'attentionShare', values: Float32Array.of(0.5, 0.6, 0.7) },
  ],
});

const read = async (plan: ReductionPlan, request: SignalRequest): Promise<number[]> => [
  ...(await carryTokens(tokens, plan).signal(request)),
];

describe('signals', () => {
  it('are restricted by a selection, in its order', async () => {
    const plan = selectionPlan([3, 1], 4);
    expect(await read(plan, { signal: 'attentionGiven' })).toEqual([...Float32Array.of(0.4, 0.2)]);
    expect(await read(plan, { signal: 'attentionReceived' })).toEqual([1, 0.25]);
    expect(await read(plan, { signal: 'keys' })).toEqual([-1, 0, 0, 1]);
    expect(await read(plan, { signal: 'attentionShare' })).toEqual([...Float32Array.of(0.5, 0.6, 0.7)]);
  });

  it('are summed or averaged in a merge, the averages with weights scaled to sum 1', async () => {
    const plan = mergePlan(
      [
        { sources: [0, 3], weights: [3, 1] },
        { sources: [2], weights: [0.125] },
      ],
      4,
    );
    expect(await read(plan, { signal: 'attentionReceived' })).toEqual([1.5, 0.125]);
    expect(await read(plan, { signal: 'classAttention', layer: 'last' })).toEqual([9, 4]);
    expect(await read(plan, { signal: 'promptAttention', layer: 2, rows: 'last' })).toEqual([9, 2]);
    const given = await read(plan, { signal: 'attentionGiven' }); // (3 * .1 + 1 * .4) / 4, .3
    expect(given[0]).toBeCloseTo(0.175, 7);
    expect(given[1]).toBeCloseTo(0.3, 7);
    expect(await read(plan, { signal: 'keys' })).toEqual([0.5, 0, 1, 1]); // (3 * 1 - 1) / 4
  });

  it('are averaged equally where weights sum to 0, and for a maximum', async () => {
    const cancelled = mergePlan([{ sources: [0, 1], weights: [1, -1] }], 4);
    expect(await read(cancelled, { signal: 'keys' })).toEqual([0.5, 0.5]);
    expect(await read(maxPlan([[0, 1]], 4), { signal: 'keys' })).toEqual([0.5, 0.5]);
    expect(await read(maxPlan([[0, 1]], 4), { signal: 'attentionReceived' })).toEqual([0.75]);
  });

  it('answer nearest among what is left', async () => {
    const kept = carryTokens(tokens, selectionPlan([0, 1, 3], 4));
    // By angle from token 0: token 1 at 90 degrees, token 3 (now 2) at 180; token 2, at 45, is gone.
    expect([...(await kept.nearest(Uint32Array.of(0), 5))]).toEqual([1, 2]);
  });

  it('that are missing or wrong stay so', async () => {
    const kept = carryTokens(tokens, selectionPlan([0], 4));
    await expect(kept.signal({ signal: 'classAttention' })).rejects.toThrow(SignalUnavailableError);
    const wrong = createVisualTokens({
      length: 2,
      signals: [{ signal: 'attentionGiven', values: Float32Array.of(NaN, 1) }],
    });
    const carried = carryTokens(wrong, selectionPlan([1], 2));
    await expect(carried.signal({ signal: 'attentionGiven' })).rejects.toThrow(InvalidSignalError);
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
  const images = createVisualTokens({
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

it('keeps the key', () => {
  expect(carryTokens(tokens, selectionPlan([1], 4)).key).toBe('image');
});
