import {
  applyPlan,
  beforeLanguageLayer,
  carryTokens,
  createTokens,
  hiddenStates,
  InvalidArgumentError,
  InvalidSignalError,
  planTokens,
  questionAttention,
  questionRelevance,
  questionStates,
  scaledLayer,
  type Budget,
  type ReductionPlan,
  type TokenReducer,
  type TokenSource,
  type TokensInit,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { sparsevlm, sparsevlmEntry, type SparsevlmOptions } from './sparsevlm.js';

/** The reducer at one of its stages alone. */
function atStage(reducer: TokenReducer, stage: number): TokenReducer {
  return { ...reducer, at: [reducer.at[stage]], plan: (tokens, site) => reducer.plan(tokens, site, stage) };
}

for (const stage of [0, 1, 2]) {
  describe(`conforms: stage ${stage + 1}`, () => {
    const cases = reducerConformance({
      create: (options) => atStage(sparsevlm(options), stage),
      // The last stage recycles enough for two clusters, of which equally dense tokens then decide.
      ...(stage < 2 && { ranks: 'tokens' }),
      expectedLength: (budget, { length }) => expectedOutputs(budget, length, stage),
      selects: false,
      ascending: false,
    });
    for (const { name, run } of cases) test(name, run);
  });
}

describe('conforms: version 1.0', () => {
  const cases = reducerConformance({
    create: (options) => atStage(sparsevlm({ ...options, version: '1.0', noise: 1e-6 }), 3),
    budgets: [], // the rank of the attention decides
    selects: false,
    ascending: false,
  });
  for (const { name, run } of cases) test(name, run);
});

/** Of so many tokens, that many kept: what goes out. */
function withClusters(length: number, kept: number): number {
  const clusters = Math.floor((Math.floor((length - kept) * 0.3) + 1) / 10) + 1;
  return kept === length ? length : kept + clusters;
}

const officialOutputs = [
  { budget: 192, outputs: [309, 204, 113] },
  { budget: 128, outputs: [312, 117, 39] },
  { budget: 96, outputs: [249, 55, 27] },
  { budget: 64, outputs: [82, 32, 18] },
];

/**
 * What a stage leaves of `entered` tokens, none of which an earlier one took. By trying each factor at which
 * a stage gets one token more.
 */
function expectedOutputs(budget: Budget, entered: number, stage: number): number {
  const count =
    'keepRatio' in budget
      ? Math.max(1, Math.floor(entered * budget.keepRatio + 1e-9))
      : Math.min(budget.keepCount, entered);
  if (count === entered) return entered;
  const share = (count * 576) / entered;
  const { outputs } = officialOutputs.toSorted(
    (a, b) => Math.abs(a.budget - share) - Math.abs(b.budget - share) || b.budget - a.budget,
  )[0];
  const parts = outputs.map((output) => (output * entered) / 576);
  const schedule = (factor: number): number[] => {
    const counts = [entered];
    for (const part of parts) {
      const before = counts[counts.length - 1];
      const most = Math.max(Math.round(part * factor), before === 1 ? 1 : withClusters(before, 1));
      counts.push(Math.min(before, most));
    }
    return counts;
  };
  const mean = (counts: number[]): number =>
    (2 * counts[0] + 4 * counts[1] + 9 * counts[2] + 17 * counts[3]) / 32;
  const factors = parts.flatMap((part) =>
    Array.from({ length: entered }, (_, i) => ((i + 0.5) / part) * (1 + 1e-12)),
  );
  const fitting = [0, ...factors].filter((factor) => mean(schedule(factor)) <= count);
  const counts = schedule(Math.max(0, ...fitting));
  const before = counts[stage];
  const after = counts[stage + 1];
  const all = Array.from({ length: before + 1 }, (_, kept) => kept);
  const kept =
    after === before ? before : Math.max(...all.filter((some) => withClusters(before, some) === after));
  return withClusters(entered, Math.min(kept, entered));
}

/** Hidden states of two channels, and what two question tokens pay; only the first rates. */
function tokensOf(
  attention: readonly number[],
  states: readonly (readonly [number, number])[],
  init: Partial<TokensInit> = {},
  layer = 2,
): TokenSource {
  return createTokens({
    length: attention.length,
    ...init,
    signals: [
      { ...questionRelevance(), values: Float32Array.of(0.75, 0.25) },
      {
        ...questionAttention({ layer }),
        values: Float32Array.from(attention.flatMap((one) => [one, 1 - one])),
      },
      { ...hiddenStates({ layer }), values: Float32Array.from(states.flat()) },
      { ...questionStates({ layer }), values: new Float32Array(4) },
    ],
  });
}

/** Ten tokens, the even ones rated higher, in one heap on the line. */
const ten = tokensOf(
  [0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.6, 0.4, 0.5, 0],
  Array.from({ length: 10 }, (_, i) => [i, 0]),
);

/** The outputs as sources, each with what its weights are one of. */
function outputsOf({ offsets, sources, weights, outputLength }: ReductionPlan): object[] {
  return Array.from({ length: outputLength }, (_, m) => {
    const own = [...sources.subarray(offsets[m], offsets[m + 1])];
    return { sources: own, parts: Math.round(1 / (weights?.[offsets[m]] ?? 1)) };
  });
}

describe('sparsevlm', () => {
  it('keeps what the raters attend to most, and merges the best of the others behind', async () => {
    // 5 of 10 are 288 of 576: by 192's list, whose stages leave 309, 204 and 113. Times 10 / 576 and 1.56 that
    // is 8, 6 and 3; the next factor's 9, 6 and 3 would be (20 + 36 + 54 + 51) / 32 on average, above 5. To
    // leave 8 of 10, 7 are kept, and of the other 3 the best, floor(0.9) + 1, is one cluster.
    const plan = await planTokens(sparsevlm({ keepCount: 5 }), ten);
    expect([...plan.anchors]).toEqual([0, 2, 4, 5, 6, 7, 8, 3]);
    expect(outputsOf(plan).at(-1)).toEqual({ sources: [3], parts: 1 });
    expect(plan.warnings).toEqual([]);
  });

  it('acts at its stages, counts by the list of each, and positions anew', () => {
    const { at, positions, requires } = sparsevlm();
    expect({ at, positions }).toEqual({
      at: [3, 7, 16].map((layer) => beforeLanguageLayer(scaledLayer(layer, 32))),
      positions: 'renumbered',
    });
    expect(requires).toEqual({
      relevance: questionRelevance(),
      attention: questionAttention({ layer: 'before' }),
      states: { similarityBy: hiddenStates({ layer: 'before', norm: 'none' }) },
      question: questionStates({ layer: 'before', norm: 'none' }),
    });
    expect(sparsevlm({ version: '1.0' }).at).toEqual(
      [3, 7, 16, 20].map((layer) => beforeLanguageLayer(scaledLayer(layer, 32))),
    );
  });

  it.each([
    [192, [309, 204, 113]],
    [128, [312, 117, 39]],
    [96, [249, 55, 27]],
    [64, [82, 32, 18]],
  ])('keeps %i of 576 by the official list', async (keepCount, outputs) => {
    for (const options of [{ keepCount }, { keepRatio: keepCount / 576 }]) {
      const reducer = sparsevlm(options);
      let length = 576;
      for (const [stage, output] of outputs.entries()) {
        const tokens = tokensOf(
          Array.from({ length }, (_, i) => ((i * 37) % length) / length),
          Array.from({ length }, (_, i) => [Math.sin(i), Math.cos(3 * i)]),
          { entered: 576 },
          [2, 6, 15][stage],
        );
        length = (await planTokens(reducer, tokens, reducer.at[stage], stage)).outputLength;
        expect(length).toBe(output);
      }
    }
  });

  it('is the official 192 of 576 unless told otherwise', async () => {
    const many = tokensOf(
      Array.from({ length: 576 }, (_, i) => i / 576),
      Array.from({ length: 576 }, (_, i) => [Math.sin(i), i]),
    );
    expect(await planTokens(sparsevlm(), many)).toEqual(
      await planTokens(sparsevlm({ keepCount: 192 }), many),
    );
    expect(sparsevlmEntry.options.map(({ option, default: value }) => [option, value])).toEqual([
      ['keepRatio', ''],
      ['keepCount', ''],
      ['version', '1.5'],
      ['noise', '0'],
      ['seed', '0'],
    ]);
  });

  it('counts by what entered the language model, not by what an earlier method left', async () => {
    const reducer = sparsevlm({ keepCount: 64 });
    const many = (length: number, entered: number): Promise<ReductionPlan> =>
      planTokens(
        reducer,
        tokensOf(
          Array.from({ length }, (_, i) => i / length),
          Array.from({ length }, (_, i) => [Math.sin(i), i]),
          { entered },
        ),
      );
    expect((await many(100, 576)).outputLength).toBe(66 + 2); // 34 pruned, 11 recycled
    expect((await many(60, 576)).outputLength).toBe(60); // 59 and one cluster, as the official code has it
    expect((await many(60, 60)).warnings).toEqual([
      'keepCount 64 is more than the 60 tokens there are: all kept',
    ]);
  });

  it('divides a merged token by its count and 1e-6, and gives it its centre’s place', async () => {
    // One kept of six, five pruned: the two best of them recycled, into one cluster.
    const tokens = tokensOf(
      [0.1, 0.2, 0.3, 0.9, 0.8, 0.7],
      [
        [0, 0],
        [0, 0],
        [0, 0],
        [2, 0],
        [4, 8],
        [6, 16],
      ],
    );
    const plan = await planTokens(sparsevlm({ keepCount: 1 }), tokens);
    expect(outputsOf(plan)).toEqual([
      { sources: [3], parts: 1 },
      { sources: [4, 5], parts: 2 },
    ]);
    expect([...plan.anchors]).toEqual([3, 4]); // of two equally dense tokens the lower
    const merged = applyPlan(plan, Float32Array.of(0, 0, 0, 0, 4e6, 6e6));
    expect(merged[1]).toBeCloseTo(10e6 / (2 + 1e-6), -1);
    expect(merged[1]).toBeLessThan(5e6);
  });

  it('hands a merged token to the image of its centre, behind what that image keeps', async () => {
    const tokens = tokensOf(
      [0.1, 0.8, 0.7, 0.9, 0.2, 0.95],
      [
        [0, 0],
        [4, 8],
        [6, 16],
        [2, 0],
        [0, 0],
        [0, 0],
      ],
      {
        spans: [
          { start: 0, length: 3 },
          { start: 3, length: 3 },
        ],
      },
    );
    // Token 5 is kept; 3 and 1 are recycled, and of equally dense ones the lower is the centre.
    const plan = await planTokens(sparsevlm({ keepCount: 1 }), tokens);
    expect(outputsOf(plan)).toEqual([
      { sources: [1, 3], parts: 2 },
      { sources: [5], parts: 1 },
    ]);
    expect([...plan.anchors]).toEqual([1, 5]);
    expect(carryTokens(tokens, plan).spans).toEqual([
      { start: 0, length: 1 },
      { start: 1, length: 1 },
    ]);
  });

  it('has all tokens of the question rate where none is more relevant, and says so', async () => {
    const alike = createTokens({
      length: 8,
      signals: [
        { ...questionRelevance(), values: Float32Array.of(1) },
        { ...questionAttention({ layer: 2 }), values: Float32Array.of(8, 7, 6, 5, 4, 3, 2, 1) },
        { ...hiddenStates({ layer: 2 }), values: new Float32Array(16) },
        { ...questionStates({ layer: 2 }), values: new Float32Array(2) },
      ],
    });
    const plan = await planTokens(sparsevlm({ keepCount: 3 }), alike);
    expect(plan.anchors[0]).toBe(0);
    expect(plan.warnings).toEqual([
      'no token of the question is more relevant to the image than the others: all 1 rate',
    ]);
  });

  it('says what cannot be had, at its first stage alone', async () => {
    const reducer = sparsevlm({ keepCount: 1 });
    const first = await planTokens(reducer, many(100, 2), reducer.at[0], 0);
    // 5, 2 and 2 tokens: (200 + 20 + 18 + 34) / 32
    expect(first.warnings).toEqual([
      '1 of 100 tokens cannot be had, as the first layers see all: 8.5 are left on average',
    ]);
    expect((await planTokens(reducer, many(100, 6), reducer.at[1], 1)).warnings).toEqual([]);
  });

  it('draws its noise by the image and the seed', async () => {
    // A coarse noise, so that the centres are a draw.
    const anchors = async (imageHash: string, seed = 0): Promise<string> => {
      const reducer = sparsevlm({ keepCount: 64, noise: 1, seed });
      const tokens = { ...many(576, 2), imageHash };
      return (await planTokens(reducer, tokens)).anchors.join();
    };
    expect(await anchors('one')).toBe(await anchors('one'));
    expect(await anchors('one')).not.toBe(await anchors('two'));
    expect(await anchors('one')).not.toBe(await anchors('one', 1));
  });

  it('refuses signals of different questions', async () => {
    const of = (attention: number, states: number): Promise<ReductionPlan> =>
      planTokens(
        sparsevlm(),
        createTokens({
          length: 4,
          signals: [
            { ...questionRelevance(), values: Float32Array.of(0.7, 0.2, 0.1) },
            { ...questionAttention({ layer: 2 }), values: new Float32Array(attention) },
            { ...hiddenStates({ layer: 2 }), values: new Float32Array(8) },
            { ...questionStates({ layer: 2 }), values: new Float32Array(states) },
          ],
        }),
      );
    await expect(of(8, 6)).rejects.toThrow(InvalidSignalError);
    await expect(of(8, 6)).rejects.toThrow('is of 2 tokens of the question, questionRelevance of 3');
    await expect(of(12, 7)).rejects.toThrow('has 7 values, which are not 3 rows');
  });

  it.each([
    [{ version: '2.0' }, "version must be '1.5' or '1.0'"],
    [{ noise: -1 }, 'noise must be a number in [0, 1]'],
    [{ noise: NaN }, 'noise must be a number in [0, 1]'],
    [{ seed: -1 }, 'seed must be an integer from 0'],
    [{ keepRatio: 0.5, keepCount: 5 }, 'keepRatio and keepCount must be given one at a time'],
  ])('refuses %j', (options, message) => {
    expect(() => sparsevlm(options as SparsevlmOptions)).toThrow(InvalidArgumentError);
    expect(() => sparsevlm(options as SparsevlmOptions)).toThrow(message);
  });

  it('is made from text', () => {
    const { name, at } = sparsevlmEntry.create({ version: '1.0', count: '128', noise: '1e-6' });
    expect({ name, stages: at.length }).toEqual({ name: sparsevlmEntry.name, stages: 4 });
  });
});

/** That many tokens, of falling attention. */
function many(length: number, layer: number): TokenSource {
  return tokensOf(
    Array.from({ length }, (_, i) => 1 - i / length),
    Array.from({ length }, (_, i) => [Math.sin(i), Math.cos(7 * i)]),
    {},
    layer,
  );
}
