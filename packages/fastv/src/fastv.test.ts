import { carryTokens, createVisualTokens, type VisualTokens } from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { createFastv, fastvDefaults, type FastvOptions } from './fastv.js';

for (const rows of ['last', 'mean'] as const) {
  describe(`conforms: rows ${rows}`, () => {
    const create = (options: FastvOptions): ReturnType<typeof createFastv> =>
      createFastv({ ...options, rows });
    for (const { name, run } of reducerConformance({ create, ranks: 'tokens' })) test(name, run);
  });
}

/** Two images of three and four tokens; what layer 2 attends to from the last position and on average, and layer 0 from the last. */
const tokens: VisualTokens = createVisualTokens({
  length: 7,
  spans: [
    { start: 0, length: 3 },
    { start: 3, length: 4 },
  ],
  signals: [
    {
      signal: 'promptAttention',
      layer: 2,
      rows: 'last',
      values: Float32Array.of(0, 0.1, 0.05, 0.2, 0.1, 0.3, 0.1),
    },
    {
      signal: 'promptAttention',
      layer: 2,
      rows: 'mean',
      values: Float32Array.of(0.4, 0, 0, 0, 0, 0, 0.3),
    },
    {
      signal: 'promptAttention',
      layer: 0,
      rows: 'last',
      values: Float32Array.of(0, 0.5, 0, 0, 0, 0, 0),
    },
  ],
});

const keep = async (options: FastvOptions): Promise<number[]> => [
  ...(await createFastv(options).plan(tokens)).sources,
];

describe('createFastv', () => {
  it('keeps what the layer below K attends to most, all images ranked together, in their order', async () => {
    expect(await keep({ budget: { keepCount: 2 } })).toEqual([3, 5]);
    expect(await keep({ budget: { keepCount: 4 } })).toEqual([1, 3, 4, 5]); // .1 three times: at 1, 4 and 6
    expect(await keep({ budget: { keepRatio: 0.75 } })).toEqual([1, 3, 4, 5, 6]); // 5.25
    expect(await keep({ budget: { keepRatio: 0.01 } })).toEqual([5]); // at least one
  });

  it('looks from where it is told to, at the layer it is told to', async () => {
    expect(await keep({ budget: { keepCount: 2 }, rows: 'mean' })).toEqual([0, 6]);
    expect(await keep({ budget: { keepCount: 1 }, layer: 1 })).toEqual([1]);
  });

  it('may take every token of an image', async () => {
    const plan = await createFastv({ budget: { keepCount: 2 } }).plan(tokens);
    expect(carryTokens(tokens, plan).spans).toEqual([
      { start: 0, length: 0 },
      { start: 0, length: 2 },
    ]);
  });

  it('declares its choice as the top-k of one signal', () => {
    const budget = { keepCount: 5 };
    const { stage, layer, topK, requires } = createFastv({ layer: 2, budget, rows: 'mean' });
    const score = { signal: 'promptAttention', layer: 1, rows: 'mean' };
    expect({ stage, layer, topK, requires }).toEqual({
      stage: 'language',
      layer: 2,
      topK: { score, budget },
      requires: [score],
    });
  });

  it('is the official code at K = 3, keeping a quarter, unless told otherwise', async () => {
    expect(fastvDefaults).toEqual({ layer: 3, budget: { keepRatio: 0.25 }, rows: 'last' });
    expect(await keep({})).toEqual([5]); // 1.75
  });

  it.each([
    [{ layer: 0 }, 'layer must be a positive integer'],
    [{ layer: 1.5 }, 'layer must be a positive integer'],
    [{ layer: NaN }, 'layer must be a positive integer'],
    [{ layer: '2' as unknown as number }, 'layer must be a positive integer'],
    [{ rows: 'first' as 'last' }, 'rows must be "last" or "mean"'],
    [{ budget: { attentionMass: 0.8 } as unknown as { keepRatio: number } }, 'budget must be either'],
  ])('refuses %j', (options, message) => {
    expect(() => createFastv(options)).toThrow(message);
  });
});
