import {
  applyPlan,
  attentionReceived,
  carryTokens,
  classAttention,
  createTokens,
  InvalidArgumentError,
  keys as keysSignal,
  similarityBy,
  planTokens,
  selectionPlan,
  SignalUnavailableError,
  type ReductionPlan,
  type TokenReducer,
  type TokenSource,
  type VisionLayer,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import {
  prumerge,
  prumergeEntry,
  prumergePlus,
  prumergePlusEntry,
  type PrumergeOptions,
} from './prumerge.js';

for (const preset of ['official-code', 'paper'] as const) {
  describe(`conforms: ${preset}`, () => {
    const create = (options: PrumergeOptions): TokenReducer => prumerge({ ...options, preset });
    const cases = reducerConformance({ create, ranks: 'tokens', selects: false, ascending: false });
    for (const { name, run } of cases) test(name, run);
  });

  describe(`conforms: plus, ${preset}`, () => {
    // An even sample depends on places, so that it does not move with the tokens.
    const create = (options: PrumergeOptions): TokenReducer => prumergePlus({ ...options, preset });
    const cases = reducerConformance({ create, selects: false, ascending: false });
    for (const { name, run } of cases) test(name, run);
  });
}

/** Tokens of that class attention; keys [N, D], all alike where none are given. */
function attendedTokens(
  attention: ArrayLike<number>,
  keys: ArrayLike<number> = new Float32Array(attention.length).fill(1),
  layer: VisionLayer = 'features',
): TokenSource {
  return createTokens({
    length: attention.length,
    signals: [
      { ...classAttention({ layer }), values: Float32Array.from(attention) },
      { ...keysSignal({ layer }), values: Float32Array.from(keys) },
    ],
  });
}

/**
 * Of eight tokens 6, then 4, stand out: Q1 = 1/64, Q3 = 11/128, bound 49/256. Each has all others as
 * neighbours.
 */
const attention = [1 / 64, 1 / 64, 1 / 32, 1 / 64, 1 / 4, 1 / 64, 1 / 2, 1 / 64];
const eight = attendedTokens(attention);

const methods = [
  ['prumerge', prumerge],
  ['prumerge-plus', prumergePlus],
] as const;

/** The outputs as dense rows [M, N] of weights. */
function dense({ inputLength, outputLength, offsets, sources, weights }: ReductionPlan): number[][] {
  return Array.from({ length: outputLength }, (_, m) => {
    const row = new Array<number>(inputLength).fill(0);
    for (let e = offsets[m]; e < offsets[m + 1]; e++) row[sources[e]] = weights?.[e] ?? 1;
    return row;
  });
}

describe('prumerge', () => {
  it('keeps what stands out by descending class attention, adds its neighbours, and the others as an extra token', async () => {
    const plan = await planTokens(prumerge(), eight);
    expect(dense(plan)).toEqual([
      attention.with(6, 1),
      attention.with(4, 1),
      attention.with(4, 0).with(6, 0),
    ]);
    expect([...plan.anchors]).toEqual([6, 4, 2]);
    expect(plan.warnings).toEqual([]);
  });

  it('as in the paper: averages, and kept tokens in their order', async () => {
    const plan = await planTokens(prumerge({ preset: 'paper' }), eight);
    const scaled = (row: number[], sum: number): number[] => row.map((weight) => Math.fround(weight / sum));
    expect(dense(plan)).toEqual([
      scaled(attention.with(4, 1), 1 + 39 / 64), // all attention is 55 / 64
      scaled(attention.with(6, 1), 1 + 23 / 64),
      scaled(attention.with(4, 0).with(6, 0), 7 / 64),
    ]);
    expect([...plan.anchors]).toEqual([4, 6, 2]);
  });

  it('counts the extra token in a budget', async () => {
    const anchors = async (options: PrumergeOptions): Promise<number[]> => [
      ...(await planTokens(prumerge(options), eight)).anchors,
    ];
    expect(await anchors({ keepCount: 4 })).toEqual([6, 4, 2, 0]);
    expect(await anchors({ keepRatio: 0.5 })).toEqual([6, 4, 2, 0]);
    expect(await anchors({ keepCount: 4, preset: 'paper' })).toEqual([2, 4, 6, 0]);
    expect(await anchors({ keepCount: 1 })).toEqual([6]); // the extra token alone
  });

  it.each(methods)('%s merges all into one, and says so, where none stands out', async (_, create) => {
    const plan = await planTokens(create(), attendedTokens([0.25, 0.25, 0.125, 0.125]));
    expect(dense(plan)).toEqual([[0.25, 0.25, 0.125, 0.125]]);
    expect([...plan.anchors]).toEqual([0]);
    expect(plan.warnings).toEqual(["no token's class attention stands out: all 4 were merged into one"]);
  });

  it('reads the layer that it is told to', async () => {
    expect(prumerge({ layer: 'last' }).requires).toEqual({
      attention: classAttention({ layer: -1, heads: 'joined' }),
      similar: similarityBy(keysSignal({ layer: -1, heads: 'joined' })),
    });
    const tokens = attendedTokens(attention, attention, -1);
    expect([...(await planTokens(prumerge({ layer: 'last' }), tokens)).anchors]).toEqual([6, 4, 2]);
    await expect(planTokens(prumerge(), tokens)).rejects.toThrow(SignalUnavailableError);
  });

  it.each(methods)('%s needs a class token', async (_, create) => {
    const received = { ...attentionReceived(), values: Float32Array.from(attention) };
    const plan = planTokens(create(), createTokens({ length: 8, signals: [received] }));
    await expect(plan).rejects.toThrow(SignalUnavailableError);
    await expect(plan).rejects.toThrow('classAttention@features:joined');
  });

  it('keeps a token in its place though a neighbour has as much attention as there is', async () => {
    const plan = await planTokens(prumerge({ keepCount: 3 }), attendedTokens([1, 1, 0, 0]));
    expect([...plan.anchors]).toEqual([0, 1, 2]);
  });

  it('averages nothing where there is no attention to average by', async () => {
    const options: PrumergeOptions = { keepCount: 2, preset: 'paper' };
    const plan = await planTokens(prumerge(options), attendedTokens([0, 0, 0]));
    expect(dense(plan)).toEqual([
      [1, 0, 0],
      [0, 0, 0],
    ]);
  });

  it('goes by outliers, the layer of the features and the official code unless told otherwise', () => {
    for (const entry of [prumergeEntry, prumergePlusEntry]) {
      expect(entry.options.map(({ option, default: value }) => [option, value])).toEqual([
        ['keepRatio', ''],
        ['keepCount', ''],
        ['layer', 'features'],
        ['preset', 'official-code'],
      ]);
    }
    expect(prumerge().requires).toEqual({
      attention: classAttention({ layer: 'features', heads: 'joined' }),
      similar: similarityBy(keysSignal({ layer: 'features', heads: 'joined' })),
    });
  });

  it.each([
    [{ layer: 22 }, "layer must be 'features' or 'last'"],
    [{ preset: 'official' }, "preset must be 'official-code' or 'paper'"],
    [{ budget: 'outliers' }, 'option must be one of keepRatio, keepCount, layer, preset; received "budget"'],
    [{ keepRatio: 0.5, keepCount: 3 }, 'keepRatio and keepCount must be given one at a time'],
    [{ attentionMass: 0.5 }, 'received "attentionMass"'],
  ])('refuses %j', (options, message) => {
    for (const [, create] of methods) {
      expect(() => create(options as PrumergeOptions)).toThrow(InvalidArgumentError);
      expect(() => create(options as PrumergeOptions)).toThrow(message);
    }
  });

  it('is made from text', async () => {
    const anchors = async (reducer: TokenReducer): Promise<number[]> => [
      ...(await planTokens(reducer, eight)).anchors,
    ];
    expect(await anchors(prumergeEntry.create({ count: '4', preset: 'paper' }))).toEqual([2, 4, 6, 0]);
    expect(await anchors(prumergePlusEntry.create({ count: '6' }))).toEqual([6, 1, 0, 2, 4, 3]);
    expect(prumergeEntry.create().name).toBe(prumergeEntry.name);
    expect(prumergePlusEntry.create().name).toBe(prumergePlusEntry.name);
  });

  it('follows a selection: signals stay with their tokens', async () => {
    const left = carryTokens(eight, selectionPlan([1, 2, 3, 4, 5, 6], 8)); // without 0 and 7, of 1 / 64 both
    const plan = await planTokens(prumerge({ keepCount: 2 }), left);
    const weights = attention.slice(1, 7);
    expect(dense(plan)).toEqual([weights.with(5, 1), weights.with(5, 0)]);
  });
});

describe('prumergePlus', () => {
  it('keeps an even sample beside what stands out', async () => {
    const plan = await planTokens(prumergePlus(), eight);
    // Two of 8 stand out: int(4 / 3) = 1, all but the last token, which the extra token holds alone.
    expect([...plan.anchors]).toEqual([6, 4, 0, 1, 2, 3, 5, 7]);
    expect(dense(plan).at(-1)).toEqual([0, 0, 0, 0, 0, 0, 0, 1 / 64]);
  });

  it('as in the paper: outliers and sample together in their order', async () => {
    const plan = await planTokens(prumergePlus({ preset: 'paper' }), eight);
    expect([...plan.anchors]).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(dense(plan).at(-1)).toEqual([0, 0, 0, 0, 0, 0, 0, 1]);
  });

  it('has no extra token where all were kept', async () => {
    // What stood out at 6 stands out at the last place, which the sample leaves out.
    const values = attention.with(6, 1 / 64).with(7, 1 / 2);
    const plan = await planTokens(prumergePlus(), attendedTokens(values));
    expect([...plan.anchors]).toEqual([7, 4, 0, 1, 2, 3, 5, 6]);
    expect(dense(plan)[0]).toEqual(values.with(7, 1));
  });

  it('fills a budget with the most attended tokens, their sample and the extra token', async () => {
    // One and its sample (step int(8 / 3)) are 6, 0, 2, 4; two and theirs would be 7 tokens; the next of the
    // ranking is 1.
    const plan = await planTokens(prumergePlus({ keepCount: 6 }), eight);
    expect([...plan.anchors]).toEqual([6, 1, 0, 2, 4, 3]);
    expect(dense(plan).at(-1)).toEqual([0, 0, 0, 1 / 64, 0, 1 / 64, 0, 1 / 64]);
  });
});

/** Numbers in [0, 1), always the same (a linear congruential generator). */
function* generate(seed: number): Generator<number, never> {
  for (let state = seed; ;) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state / 2 ** 32;
  }
}

interface Generated {
  tokens: TokenSource;
  attention: number[];
  keys: number[][]; // [N, 6]
  features: number[][]; // [N, 5]
}

/** Tokens of which some get much more class attention than others. */
function generateTokens(length: number, seed: number): Generated {
  const numbers = generate(seed);
  const vector = (size: number, value: () => number): number[] =>
    Array.from({ length: size }, () => Math.fround(value()));
  const next = (): number => numbers.next().value;
  const scores = vector(length, () => (1 + next() + (next() > 0.95 ? 8 * next() : 0)) / length / 2);
  const keys = Array.from({ length }, () => vector(6, () => next() - 0.5));
  const features = Array.from({ length }, () => vector(5, () => 2 * next() - 1));
  return { tokens: attendedTokens(scores, keys.flat()), attention: scores, keys, features };
}

/**
 * clip_encoder.py of 42Shawn/LLaVA-PruMerge (1ca8b2b), `token_prune_merge_advanced` and, with `plus`,
 * `token_prune_merge_advanced_plus`, step by step on dense matrices: 575 is N - 1 there.
 */
function officialCode({ attention: clsAttn, keys, features }: Generated, plus: boolean): number[][] {
  const dot = (a: number[], b: number[]): number => a.reduce((sum, value, i) => sum + value * b[i], 0);
  const topk = (values: number[], k: number): number[] =>
    Array.from(values.keys())
      .sort((a, b) => values[b] - values[a])
      .slice(0, k);
  const weightedSum = (rows: number[][], weights: number[]): number[] =>
    features[0].map((_, c) => rows.reduce((sum, row, i) => sum + weights[i] * row[c], 0));
  const length = features.length;

  const sorted = [...clsAttn].sort((a, b) => a - b);
  const percentile = (share: number): number => {
    const [whole, part] = [Math.floor((length - 1) * share), ((length - 1) * share) % 1];
    return sorted[whole] * (1 - part) + (sorted[whole + 1] ?? 0) * part;
  };
  const upperBound = percentile(0.75) + 1.5 * (percentile(0.75) - percentile(0.25));
  const outliers = clsAttn.filter((value) => value > upperBound).length;
  let idx = topk(clsAttn, outliers);
  if (plus) {
    const stepLength = Math.trunc(1 / (outliers / length));
    const sequence: number[] = [];
    for (let x = 0; x < length - 1; x += Math.trunc(stepLength / 3)) sequence.push(x);
    idx = [...idx, ...sequence.filter((x) => !idx.includes(x))];
  }
  const complement = Array.from({ length }, (_, x) => x).filter((x) => !idx.includes(x));
  const normalized = keys.map((key) => key.map((value) => value / Math.sqrt(dot(key, key))));
  const updated = idx.map((kept, i) => {
    const rest = [...idx.slice(0, i), ...idx.slice(i + 1), ...complement];
    const cosSim = rest.map((other) => dot(normalized[kept], normalized[other]));
    const cluster = topk(cosSim, 32).map((place) => rest[place]);
    const weightedAverage = weightedSum(
      cluster.map((token) => features[token]),
      cluster.map((token) => clsAttn[token]),
    );
    return weightedAverage.map((value, c) => value + features[kept][c]);
  });
  const extra = weightedSum(
    complement.map((token) => features[token]),
    complement.map((token) => clsAttn[token]),
  );
  return [...updated, extra];
}

describe('the official code, step by step, gives the same features:', () => {
  it.each(methods)('%s', async (name, create) => {
    for (const [length, seed] of [
      [60, 1],
      [100, 2],
      [144, 3],
      [256, 4],
      [576, 5],
    ] as const) {
      const generated = generateTokens(length, seed);
      const expected = officialCode(generated, name === 'prumerge-plus');
      expect(expected.length).toBeGreaterThan(2);
      expect(expected.length).toBeLessThan(length);

      const plan = await planTokens(create(), generated.tokens);
      const actual = applyPlan(plan, Float32Array.from(generated.features.flat())); // [M, 5]
      expect(plan.outputLength).toBe(expected.length);
      const differences = expected.flat().map((value, i) => Math.abs(value - actual[i]));
      expect(Math.max(...differences)).toBeLessThan(1e-6);
    }
  });
});
