import { readFileSync } from 'node:fs';
import {
  applyPlan,
  carryTokens,
  classAttention,
  createTokens,
  InvalidArgumentError,
  isSelection,
  keys as keysSignal,
  planTokens,
  selectionPlan,
  SignalUnavailableError,
  similarityBy,
  type ReductionPlan,
  type TokenReducer,
  type TokenSource,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { visionzip, visionzipEntry, type VisionzipOptions } from './visionzip.js';

// Targets depend on places, so that contextual tokens do not move with the tokens.
describe('conforms', () => {
  const cases = reducerConformance({ create: visionzip, selects: false, ascending: false });
  for (const { name, run } of cases) test(name, run);
});

describe('conforms: without contextual tokens', () => {
  const create = (options: VisionzipOptions): TokenReducer => visionzip({ ...options, contextualCount: 0 });
  const cases = reducerConformance({ create, ranks: 'tokens' });
  for (const { name, run } of cases) test(name, run);
});

describe('conforms: official-code', () => {
  const create = (options: VisionzipOptions): TokenReducer =>
    visionzip({ ...options, preset: 'official-code' });
  const cases = reducerConformance({
    create,
    selects: false,
    ascending: false,
    expectedLength: (budget, { length }) => {
      const count =
        'keepCount' in budget
          ? Math.min(budget.keepCount, length)
          : Math.max(1, Math.floor(length * budget.keepRatio + 1e-9));
      return count === length ? length : Math.max(1, count - 1); // without the class token
    },
  });
  for (const { name, run } of cases) test(name, run);
});

/** Tokens of that class attention [N] and keys [N, D]. */
function tokensOf(attention: ArrayLike<number>, keys: ArrayLike<number>): TokenSource {
  return createTokens({
    length: attention.length,
    signals: [
      { ...classAttention({ heads: 'mean' }), values: Float32Array.from(attention) },
      { ...keysSignal({ heads: 'mean' }), values: Float32Array.from(keys) },
    ],
  });
}

/** The outputs as dense rows [M, N] of weights. */
function dense({ inputLength, outputLength, offsets, sources, weights }: ReductionPlan): number[][] {
  return Array.from({ length: outputLength }, (_, m) => {
    const row = new Array<number>(inputLength).fill(0);
    for (let e = offsets[m]; e < offsets[m + 1]; e++) row[sources[e]] = weights?.[e] ?? 1;
    return row;
  });
}

async function anchorsOf(options: VisionzipOptions, tokens: TokenSource): Promise<number[]> {
  return [...(await planTokens(visionzip(options), tokens)).anchors];
}

/** By descending class attention 6, 1, 4, 0, 2, 3, 5, 7. */
const attention = [5, 7, 4, 3, 6, 2, 8, 1].map((part) => part / 64);
/** Of the six tokens without 6 and 1, even ones point one way and odd ones the other. */
const keys = [1, 0, 0, 0, 2, 1, 0, 1, 3, 1, 1, 2, 0, 0, 1, 3];
const eight = tokensOf(attention, keys);

describe('visionzip', () => {
  it('keeps the most attended tokens in their order, then adds to targets the mean of what is near', async () => {
    // The rest is 0, 2, 3, 4, 5, 7, every third a target: 0, to which 2 is nearest, and 4; 3, 5 and 7, nearer
    // to the second axis, go to 4, and so would 2 if its length counted.
    const plan = await planTokens(visionzip({ keepCount: 4, contextualCount: 2 }), eight);
    expect(dense(plan)).toEqual([
      [0, 1, 0, 0, 0, 0, 0, 0],
      [0, 0, 0, 0, 0, 0, 1, 0],
      [1, 0, 0, 0, 0, 0, 0, 0],
      [0, 0, 0.25, 0.25, 1, 0.25, 0, 0.25],
    ]);
    expect([...plan.anchors]).toEqual([1, 6, 0, 4]);
    expect(plan.warnings).toEqual([]);
  });

  it('puts a contextual token in the place of its target, though another weighs as much', async () => {
    const tokens = tokensOf([0.125, 0.125, 0.125, 0.125, 0.5], [1, 0, 0, 1, 0, 1, 1, 0, 1, 1]);
    const plan = await planTokens(visionzip({ keepCount: 3, contextualCount: 2 }), tokens);
    expect(dense(plan)).toEqual([
      [0, 0, 0, 0, 1],
      [1, 0, 0, 1, 0],
      [0, 1, 1, 0, 0],
    ]);
    expect([...plan.anchors]).toEqual([4, 0, 2]);
  });

  it.each([
    [192, 162, 30],
    [128, 108, 20],
    [64, 54, 10],
    [576 / 4, 121, 23], // 22.5 is rounded up
    [4, 3, 1],
    [3, 3, 0],
    [1, 1, 0],
  ])('splits %i tokens as the paper does into %i and %i', async (keepCount, dominant, contextual) => {
    const { tokens, attention } = generateTokens(576, keepCount);
    const ranking = Array.from(attention.keys()).sort((a, b) => attention[b] - attention[a]);
    const top = (count: number): number[] => ranking.slice(0, count).sort((a, b) => a - b);
    const anchors = await anchorsOf({ keepCount }, tokens);
    expect(anchors.slice(0, dominant)).toEqual(top(dominant));
    expect(anchors).toHaveLength(dominant + contextual);
    if (dominant === 1) return;
    // Beside the class token, the official code keeps one fewer of the dominant.
    const official = await anchorsOf({ keepCount, preset: 'official-code' }, tokens);
    expect(official.slice(0, dominant - 1)).toEqual(top(dominant - 1));
    expect(official).toHaveLength(dominant - 1 + contextual);
  });

  it('takes the share or the number of contextual tokens that it is told', async () => {
    expect(await anchorsOf({ keepCount: 4, contextualRatio: 0.5 }, eight)).toEqual([1, 6, 0, 4]);
    expect(await anchorsOf({ keepCount: 4, contextualCount: 2 }, eight)).toEqual([1, 6, 0, 4]);
    expect(await anchorsOf({ keepCount: 4, contextualRatio: 1 }, eight)).toEqual([0, 2, 4, 6]);
    const selection = await planTokens(visionzip({ keepCount: 4, contextualCount: 0 }), eight);
    expect([...selection.sources]).toEqual([0, 1, 4, 6]);
    expect(isSelection(selection)).toBe(true);
  });

  it('makes no more contextual tokens than go out, and says so', async () => {
    const plan = await planTokens(visionzip({ keepCount: 2, contextualCount: 3 }), eight);
    expect([...plan.anchors]).toEqual([0, 4]);
    expect(plan.warnings).toEqual([
      'contextualCount 3 is more than the 2 tokens that go out: all are contextual',
    ]);
  });

  it('keeps one patch where the class token alone would be left', async () => {
    expect(await anchorsOf({ keepCount: 1, preset: 'official-code' }, eight)).toEqual([6]);
    expect(await anchorsOf({ keepCount: 2, contextualCount: 1, preset: 'official-code' }, eight)).toEqual([
      0,
    ]);
  });

  it('of equally attended tokens keeps the first', async () => {
    const tokens = tokensOf([0.125, 0.25, 0.125, 0.125], [1, 1, 1, 1]);
    expect(await anchorsOf({ keepCount: 2, contextualCount: 0 }, tokens)).toEqual([0, 1]);
  });

  it('reads the mean over the heads of attention and keys', () => {
    expect(visionzip().requires).toEqual({
      attention: classAttention({ layer: 'features', heads: 'mean' }),
      similar: similarityBy(keysSignal({ layer: 'features', heads: 'mean' })),
    });
  });

  it('keeps a quarter, in the split of the paper, unless told otherwise', () => {
    expect(visionzipEntry.options.map(({ option, default: value }) => [option, value])).toEqual([
      ['keepRatio', '0.25'],
      ['keepCount', ''],
      ['contextualRatio', '0.15625'],
      ['contextualCount', ''],
      ['preset', 'full-budget'],
    ]);
  });

  it('needs a class token', async () => {
    const rows = { ...keysSignal({ heads: 'mean' }), values: Float32Array.from(keys) };
    const plan = planTokens(visionzip(), createTokens({ length: 8, signals: [rows] }));
    await expect(plan).rejects.toThrow(SignalUnavailableError);
    await expect(plan).rejects.toThrow('classAttention@features:mean');
  });

  it.each([
    [{ contextualRatio: 2 }, 'contextualRatio must be a number in [0, 1]'],
    [{ contextualCount: -1 }, 'contextualCount must be an integer, 0 or more'],
    [{ contextualCount: 2, contextualRatio: 0.5 }, 'must be given one at a time'],
    [{ preset: 'paper' }, "preset must be 'full-budget' or 'official-code'"],
    [{ keepRatio: 0.5, keepCount: 3 }, 'keepRatio and keepCount must be given one at a time'],
    [{ dominant: 54 }, 'received "dominant"'],
  ])('refuses %j', (options, message) => {
    expect(() => visionzip(options as VisionzipOptions)).toThrow(InvalidArgumentError);
    expect(() => visionzip(options as VisionzipOptions)).toThrow(message);
  });

  it('is made from text', async () => {
    const reducer = visionzipEntry.create({ count: '4', contextualCount: '2', preset: 'official-code' });
    expect(reducer.name).toBe(visionzipEntry.name);
    expect([...(await planTokens(reducer, eight)).anchors]).toEqual([6, 0, 3]);
  });

  it('follows a selection: signals stay with their tokens', async () => {
    const left = carryTokens(eight, selectionPlan([0, 2, 3, 4, 5, 7], 8));
    const plan = await planTokens(visionzip({ keepCount: 3, contextualCount: 2 }), left);
    expect([...plan.anchors]).toEqual([3, 0, 2]); // 4 is dominant; of 0, 2, 3, 5, 7 the targets are 0 and 3
  });
});

interface EncodedArray {
  readonly shape: readonly [number, number];
  readonly b64: string;
}

/** Rows of a recorded array. */
function decode({ shape: [count, width], b64 }: EncodedArray): number[][] {
  const bytes = Uint8Array.from(Buffer.from(b64, 'base64'));
  const values = new Float32Array(bytes.buffer);
  return Array.from({ length: count }, (_, row) => [...values.subarray(row * width, (row + 1) * width)]);
}

interface OfficialCase {
  readonly name: string;
  /** The class token among them. */
  readonly dominant: number;
  readonly contextual: number;
  /** [heads, 1 + N] what the class token attends to, itself first. */
  readonly attention: EncodedArray;
  /** [1 + N, D] the class token's first. */
  readonly hiddenStates: EncodedArray;
  /** [1 + N, D'] means over the heads, the class token's first. */
  readonly keys: EncodedArray;
  /** The class token is 0, patch p is p + 1. */
  readonly dominantPositions: readonly number[];
  readonly targetPositions: readonly number[];
  /** [dominant + contextual, D] the class token's first. */
  readonly features: EncodedArray;
}

const officialCases = (
  JSON.parse(readFileSync(new URL('../fixtures/official-cases.json', import.meta.url), 'utf8')) as {
    cases: OfficialCase[];
  }
).cases;

/** The greatest difference, relative where the expected value is above 1. */
function difference(actual: Float32Array, expected: readonly number[]): number {
  expect(actual).toHaveLength(expected.length);
  return Math.max(...expected.map((value, i) => Math.abs(value - actual[i]) / Math.max(1, Math.abs(value))));
}

describe('the official code, as it ran:', () => {
  it.each(officialCases)('$name', async (recorded) => {
    const { dominant, contextual } = recorded;
    const heads = decode(recorded.attention);
    const means = heads[0].map((_, place) => heads.reduce((sum, row) => sum + row[place], 0) / heads.length);
    const tokens = tokensOf(means.slice(1), decode(recorded.keys).slice(1).flat());
    const patches = Float32Array.from(decode(recorded.hiddenStates).slice(1).flat());
    const budget = { keepCount: dominant + contextual, contextualCount: contextual };

    const plan = await planTokens(visionzip({ ...budget, preset: 'official-code' }), tokens);
    const positions = [...recorded.dominantPositions.slice(1), ...recorded.targetPositions];
    expect([...plan.anchors]).toEqual(positions.map((position) => position - 1));
    const expected = decode(recorded.features).slice(1).flat(); // without the class token
    expect(difference(applyPlan(plan, patches), expected)).toBeLessThan(1e-6);

    // With the budget in full, one patch more is dominant, in the place of the class token.
    const full = await anchorsOf(budget, tokens);
    expect(full).toHaveLength(budget.keepCount);
    const more = full.slice(0, dominant).filter((token) => !recorded.dominantPositions.includes(token + 1));
    const others = means.slice(1).filter((_, token) => !recorded.dominantPositions.includes(token + 1));
    expect(more.map((token) => means[token + 1])).toEqual([Math.max(...others)]);
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
  readonly tokens: TokenSource;
  readonly attention: number[];
  readonly keys: number[][]; // [N, 6]
  readonly features: number[][]; // [N, 5]
}

function generateTokens(length: number, seed: number): Generated {
  const numbers = generate(seed);
  const next = (): number => Math.fround(numbers.next().value);
  const vector = (size: number): number[] => Array.from({ length: size }, () => next() - 0.5);
  for (let warm = 0; warm < 8; warm++) next();
  const attention = Array.from({ length }, () => next() / length);
  const keys = Array.from({ length }, () => vector(6));
  const features = Array.from({ length }, () => vector(5));
  return { tokens: tokensOf(attention, keys.flat()), attention, keys, features };
}

/**
 * The definition once more, by other means: on N + 1 positions, of which the class token is 0, with masks and
 * sums of features.
 */
function byDefinition(
  { attention, keys, features }: Generated,
  dominant: number,
  contextual: number,
): number[][] {
  const positions = [0, ...attention.map((_, patch) => patch + 1)];
  const hidden = [features[0].map(() => 7), ...features]; // of the class token, whatever it is
  const metric = [keys[0], ...keys].map((key) => key.map((value) => value / Math.hypot(...key)));
  const byScore = positions.slice(1).sort((a, b) => attention[b - 1] - attention[a - 1]);
  const isKept = positions.map((position) => position === 0);
  for (const position of byScore.slice(0, dominant - 1)) isKept[position] = true;

  const rest = positions.filter((position) => !isKept[position]);
  const step = Math.max(1, Math.trunc(rest.length / contextual));
  const isTarget = rest.map((_, place) => place % step === 0 && place / step < contextual);
  const targets = rest.filter((_, place) => isTarget[place]);
  const sums = targets.map(() => hidden[0].map(() => 0));
  const counts = targets.map(() => 0);
  for (const position of rest.filter((_, place) => !isTarget[place])) {
    const scores = targets.map((target) =>
      metric[target].reduce((sum, value, c) => sum + value * metric[position][c], 0),
    );
    const best = scores.indexOf(Math.max(...scores));
    counts[best]++;
    sums[best] = sums[best].map((sum, c) => sum + hidden[position][c]);
  }
  const merged = targets.map((target, m) =>
    hidden[target].map((value, c) => value + sums[m][c] / Math.max(1, counts[m])),
  );
  return [...hidden.filter((_, position) => isKept[position]), ...merged];
}

test('the definition, written a second time, gives the same features for 400 images', async () => {
  for (let seed = 1; seed <= 400; seed++) {
    const length = seed % 200 === 0 ? 576 : 4 + ((seed * 7) % 90);
    const generated = generateTokens(length, seed);
    const keepCount = 2 + ((seed * 13) % (length - 3));
    const contextualCount = 1 + ((seed * 5) % (keepCount - 1));
    const options = { keepCount, contextualCount };
    const expected = byDefinition(generated, keepCount - contextualCount, contextualCount);
    const features = Float32Array.from(generated.features.flat());

    const official = await planTokens(visionzip({ ...options, preset: 'official-code' }), generated.tokens);
    const withoutClass = expected.slice(1).flat();
    expect(difference(applyPlan(official, features), withoutClass), `seed ${seed}`).toBeLessThan(1e-6);

    // With the budget in full it is the official code with one dominant token more, but for the class token.
    const plan = await planTokens(visionzip(options), generated.tokens);
    const oneMore = byDefinition(generated, keepCount - contextualCount + 1, contextualCount);
    expect(difference(applyPlan(plan, features), oneMore.slice(1).flat()), `seed ${seed}`).toBeLessThan(1e-6);
  }
});
