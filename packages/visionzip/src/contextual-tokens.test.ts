import { createTokens, keys, similarityBy, readTokens, atFeatures, type Similarity } from '@foveate/core';
import { describe, expect, it } from 'vitest';
import { mergeIntoTargets, spreadTargets } from './contextual-tokens.js';

describe('spreadTargets', () => {
  it.each<[number, number, number[]]>([
    [8, 4, [0, 2, 4, 6]],
    [11, 4, [0, 2, 4, 6]], // int(11 / 4): nothing of the end
    [7, 4, [0, 1, 2, 3]],
    [5, 1, [0]],
    [3, 3, [0, 1, 2]],
    [5, 0, []],
  ])('of %i tokens takes %i', (length, count, places) => {
    const rest = Array.from({ length }, (_, place) => 10 + 3 * place);
    expect(spreadTargets(rest, count)).toEqual(places.map((place) => 10 + 3 * place));
  });
});

/** Of tokens with those keys, two channels each. */
async function similarBy(values: readonly number[]): Promise<Similarity> {
  const rows = { ...keys(), values: Float32Array.from(values) };
  const source = createTokens({ length: values.length / 2, signals: [rows] });
  const { signals } = await readTokens(source, { similar: similarityBy(keys()) }, atFeatures);
  return signals.similar;
}

describe('mergeIntoTargets', () => {
  it('adds to each target the mean of those nearest to it, whatever their length', async () => {
    // 1 and 5 point as 0 does, 4 nearly as 3; 2 is none of the rest.
    const similar = await similarBy([1, 0, 9, 1, 1, 0, 0, 1, 1, 2, 0.5, 0]);
    expect(await mergeIntoTargets([0, 3], [0, 1, 3, 4, 5], similar)).toEqual([
      { sources: [0, 1, 5], weights: [1, 0.5, 0.5] },
      { sources: [3, 4], weights: [1, 1] },
    ]);
  });

  it('leaves a target alone that is nearest to nothing', async () => {
    const similar = await similarBy([1, 0, 1, 1, 1, 2]);
    expect(await mergeIntoTargets([0, 1], [0, 1, 2], similar)).toEqual([
      { sources: [0], weights: [1] },
      { sources: [1, 2], weights: [1, 1] },
    ]);
  });

  it('goes to the lower target where two are as near, and where a key has no direction', async () => {
    const similar = await similarBy([1, 1, 1, -1, 1, 0, 0, 0]);
    expect(await mergeIntoTargets([0, 1], [0, 1, 2, 3], similar)).toEqual([
      { sources: [0, 2, 3], weights: [1, 0.5, 0.5] },
      { sources: [1], weights: [1] },
    ]);
  });

  it('asks for nothing without targets', async () => {
    const similar = await similarBy([NaN, NaN]);
    expect(await mergeIntoTargets([], [0], similar)).toEqual([]);
  });
});
