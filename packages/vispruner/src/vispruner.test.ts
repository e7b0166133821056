import { readFileSync } from 'node:fs';
import {
  carryTokens,
  classAttention,
  createTokens,
  features,
  InvalidArgumentError,
  planTokens,
  selectionPlan,
  SignalUnavailableError,
  similarityBy,
  type TokenSource,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { vispruner, visprunerEntry, type VisprunerOptions } from './vispruner.js';

describe('conforms', () => {
  // Of two tokens that are equal in all, one is redundant: which of them depends on how they are paired.
  const cases = reducerConformance({ create: vispruner });
  for (const { name, run } of cases) test(name, run);
});

/** Tokens of that class attention [N] and features [N, D]. */
function tokensOf(attention: ArrayLike<number>, rows: ArrayLike<number>): TokenSource {
  return createTokens({
    length: attention.length,
    signals: [
      { ...classAttention({ heads: 'mean' }), values: Float32Array.from(attention) },
      { ...features(), values: Float32Array.from(rows) },
    ],
  });
}

async function keptOf(options: VisprunerOptions, tokens: TokenSource): Promise<number[]> {
  return [...(await planTokens(vispruner(options), tokens)).sources];
}

/**
 * Eight tokens, by descending class attention 7, 6, ... 0; their features are directions of so many degrees.
 */
const attention = [1, 2, 3, 4, 5, 6, 7, 8].map((part) => part / 64);
const degrees = [50, 30, 0, 90, 10, 31, 0, 0];
const direction = (angle: number): number[] => [
  Math.cos((angle * Math.PI) / 180),
  Math.sin((angle * Math.PI) / 180),
];
const eight = tokensOf(attention, degrees.flatMap(direction));

describe('vispruner', () => {
  it('keeps the most attended tokens, and of the others those that are least alike, in their order', async () => {
    // Important: 7, 6. Of 5, 4, 3, 2, 1, 0 even are 5 (31 degrees), 3 (90), 1 (30) and odd 4 (10), 2 (0),
    // 0 (50): nearest to an odd one are 5 by 19 degrees, 1 by 20, 3 by 40. Four are dropped: these three, and in
    // the next round 4 of 4, 2, 0 (10 from 2), where 4 and 0 stand at even places.
    expect(await keptOf({ keepCount: 4 }, eight)).toEqual([0, 2, 6, 7]);
    // Two are dropped: 5 and 1.
    expect(await keptOf({ keepCount: 6, importantRatio: 1 / 3 }, eight)).toEqual([0, 2, 3, 4, 6, 7]);
  });

  it('keeps a quarter, half of it by attention, unless told otherwise', async () => {
    expect(await keptOf({}, eight)).toEqual(await keptOf({ keepCount: 2, importantRatio: 0.5 }, eight));
    expect(visprunerEntry.options.map(({ option, default: value }) => [option, value])).toEqual([
      ['keepRatio', '0.25'],
      ['keepCount', ''],
      ['importantRatio', '0.5'],
    ]);
  });

  it('keeps by attention alone, or by diversity alone', async () => {
    expect(await keptOf({ keepCount: 3, importantRatio: 1 }, eight)).toEqual([5, 6, 7]);
    // Of 7, 6, 5, 4, 3, 2, 1, 0 even are 7 (0 degrees), 5 (31), 3 (90), 1 (30) and odd 6 (0), 4 (10), 2 (0),
    // 0 (50): 7 is as 6 is, 5 19 degrees from 0, 1 20 from 4 and from 0, 3 40.
    expect(await keptOf({ keepCount: 7, importantRatio: 0 }, eight)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(await keptOf({ keepCount: 6, importantRatio: 0 }, eight)).toEqual([0, 1, 2, 3, 4, 6]);
  });

  it('rounds the share of important tokens down', async () => {
    expect(await keptOf({ keepCount: 1 }, eight)).toEqual(
      await keptOf({ keepCount: 1, importantRatio: 0 }, eight),
    );
    expect(await keptOf({ keepCount: 3 }, eight)).toContain(7);
    expect(await keptOf({ keepCount: 3 }, eight)).not.toContain(6);
  });

  it('of equally attended tokens takes the first', async () => {
    const tokens = tokensOf([0.125, 0.25, 0.25, 0.25], [30, 0, 40, 80].flatMap(direction));
    expect(await keptOf({ keepCount: 1, importantRatio: 1 }, tokens)).toEqual([1]);
    // The pool is 1, 2, 3, 0: 1 is 30 degrees from 0, 3 is 40 from 2.
    expect(await keptOf({ keepCount: 3, importantRatio: 0 }, tokens)).toEqual([0, 2, 3]);
  });

  it('reads the mean over the heads and the features', () => {
    expect(vispruner().requires).toEqual({
      attention: classAttention({ layer: 'features', heads: 'mean' }),
      similar: similarityBy(features()),
    });
  });

  it('needs a class token', async () => {
    const rows = { ...features(), values: Float32Array.from(degrees.flatMap(direction)) };
    const plan = planTokens(vispruner(), createTokens({ length: 8, signals: [rows] }));
    await expect(plan).rejects.toThrow(SignalUnavailableError);
    await expect(plan).rejects.toThrow('classAttention@features:mean');
  });

  it('takes a token without direction for unlike every other', async () => {
    const tokens = tokensOf([0.4, 0.3, 0.2, 0.1], [0, 0, 1, 0, 1, 1, 1, 0]);
    // The pool is 0, 1, 2, 3: of 0 (cosine 0) and 2 (.7) the latter is dropped.
    expect(await keptOf({ keepCount: 3, importantRatio: 0 }, tokens)).toEqual([0, 1, 3]);
  });

  it.each([
    [{ importantRatio: 1.5 }, 'importantRatio must be a number in [0, 1]'],
    [{ importantRatio: NaN }, 'importantRatio must be a number in [0, 1]'],
    [{ keepRatio: 0.5, keepCount: 3 }, 'keepRatio and keepCount must be given one at a time'],
    [{ step: 8 }, 'option must be one of keepRatio, keepCount, importantRatio; received "step"'],
  ])('refuses %j', (options, message) => {
    expect(() => vispruner(options as VisprunerOptions)).toThrow(InvalidArgumentError);
    expect(() => vispruner(options as VisprunerOptions)).toThrow(message);
  });

  it('is made from text', async () => {
    const reducer = visprunerEntry.create({ count: '3', importantRatio: '1' });
    expect(reducer.name).toBe(visprunerEntry.name);
    expect([...(await planTokens(reducer, eight)).sources]).toEqual([5, 6, 7]);
  });

  it('follows a selection: signals stay with their tokens', async () => {
    const left = carryTokens(eight, selectionPlan([1, 2, 3, 4, 5], 8));
    expect(await keptOf({ keepCount: 2, importantRatio: 1 }, left)).toEqual([3, 4]);
    // The pool is 5, 4, 3, 2, 1: of 5 (31 degrees), 3 (90), 1 (30) with 4 (10), 2 (0), 1 is the nearest.
    expect(await keptOf({ keepCount: 4, importantRatio: 0 }, left)).toEqual([1, 2, 3, 4]);
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
  readonly count: number;
  readonly importantRatio: number;
  /** [heads, 1 + N] what the class token attends to, itself first. */
  readonly attention: EncodedArray;
  /** [1 + N, D] the class token's first. */
  readonly hiddenStates: EncodedArray;
  readonly kept?: readonly number[];
  /** Of the official code, which keeps nothing then. */
  readonly error?: string;
}

const officialCases = (
  JSON.parse(readFileSync(new URL('../fixtures/official-cases.json', import.meta.url), 'utf8')) as {
    cases: OfficialCase[];
  }
).cases;

describe('the official code, as it ran:', () => {
  it.each(officialCases)('$name', async ({ count, importantRatio, attention, hiddenStates, kept, error }) => {
    const heads = decode(attention);
    const means = heads[0].map((_, place) => heads.reduce((sum, row) => sum + row[place], 0) / heads.length);
    const tokens = tokensOf(means.slice(1), decode(hiddenStates).slice(1).flat());
    const found = await keptOf({ keepCount: count, importantRatio }, tokens);
    expect(found).toHaveLength(count);
    if (error === undefined) expect(found).toEqual(kept);
    else expect(error).toContain('IndexError');
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
  readonly attention: number[];
  readonly rows: number[][]; // [N, 6]
}

function generateTokens(length: number, seed: number): Generated {
  const numbers = generate(seed);
  const next = (): number => Math.fround(numbers.next().value);
  for (let warm = 0; warm < 8; warm++) next();
  return {
    attention: Array.from({ length }, () => next() / length),
    rows: Array.from({ length }, () => Array.from({ length: 6 }, () => next() - 0.5)),
  };
}

/**
 * The definition once more, by other means: the pool is a list of records that is sorted, the matrix of a round
 * is made anew from unit vectors, and what goes out is a mask.
 */
function byDefinition({ attention, rows }: Generated, count: number, ratio: number): number[] {
  const unit = rows.map((row) => {
    const norm = Math.hypot(...row);
    return row.map((value) => value / norm);
  });
  const order = attention.map((value, token) => ({ value, token })).sort((a, b) => b.value - a.value);
  const important = Math.trunc(count * ratio);
  const mask = attention.map(() => false);
  for (const { token } of order.slice(0, important)) mask[token] = true;
  let residual = order.slice(important).map(({ token }) => token);
  for (;;) {
    const toDrop = Math.min(8, residual.length - (count - important));
    if (toDrop <= 0) break;
    const a: { token: number; score: number }[] = [];
    const b: number[] = [];
    for (let i = 1; i < residual.length; i += 2) b.push(residual[i]);
    for (let i = 0; i < residual.length; i += 2) {
      const own = unit[residual[i]];
      const scores = b.map((other) => own.reduce((sum, value, c) => sum + value * unit[other][c], 0));
      a.push({ token: residual[i], score: Math.max(...scores) });
    }
    a.sort((one, other) => other.score - one.score);
    residual = a
      .filter((_, place) => place >= toDrop)
      .map(({ token }) => token)
      .concat(b);
  }
  if (count > important) for (const token of residual) mask[token] = true;
  return mask.flatMap((isKept, token) => (isKept ? [token] : []));
}

describe('the definition, written a second time, keeps the same tokens:', () => {
  it('of 400 images', async () => {
    for (let seed = 1; seed <= 400; seed++) {
      const length = 2 + ((seed * 7) % 90);
      const generated = generateTokens(length, seed);
      const count = 1 + ((seed * 13) % (length - 1));
      const importantRatio = [0.5, 0, 0.25, 0.8, 1][seed % 5];
      const tokens = tokensOf(generated.attention, generated.rows.flat());
      const expected = byDefinition(generated, count, importantRatio);
      expect(await keptOf({ keepCount: count, importantRatio }, tokens), `seed ${seed}`).toEqual(expected);
    }
  });

  it('of 24 x 24 tokens', async () => {
    for (const keepCount of [192, 128, 64]) {
      const generated = generateTokens(576, keepCount);
      const tokens = tokensOf(generated.attention, generated.rows.flat());
      expect(await keptOf({ keepCount }, tokens)).toEqual(byDefinition(generated, keepCount, 0.5));
    }
  });
});

test('moving the tokens moves what is kept with them', async () => {
  for (let seed = 1; seed <= 100; seed++) {
    const length = 2 + (seed % 40);
    const { attention, rows } = generateTokens(length, seed);
    const keepCount = 1 + ((seed * 5) % length);
    const { attention: places } = generateTokens(length, -seed);
    const order = Array.from(places.keys()).sort((a, b) => places[a] - places[b]);
    const moved = tokensOf(
      order.map((token) => attention[token]),
      order.flatMap((token) => rows[token]),
    );
    const kept = (await keptOf({ keepCount }, moved)).map((place) => order[place]);
    expect(kept.sort((a, b) => a - b)).toEqual(await keptOf({ keepCount }, tokensOf(attention, rows.flat())));
  }
});
