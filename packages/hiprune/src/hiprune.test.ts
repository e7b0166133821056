import {
  atFeatures,
  attentionReceived,
  createTokens,
  GridRequiredError,
  InvalidArgumentError,
  planTokens,
  requestsOf,
  scaledLayer,
  type Grid,
  type ReductionPlan,
  type TokenReducer,
  type TokenSource,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import official from '../fixtures/official-cases.json' with { type: 'json' };
import { hiprune, hipruneEntry, type HipruneOptions } from './hiprune.js';
import { clampedNeighbours, gridNeighbours } from './neighbours.js';

describe('conforms: no anchors among so few tokens', () => {
  for (const { name, run } of reducerConformance({ create: hiprune, ranks: 'tokens' })) test(name, run);
});

for (const preset of ['grid', 'official-code'] as const) {
  describe(`conforms: as many anchors as can be, ${preset}`, () => {
    const create = (options: HipruneOptions): TokenReducer => hiprune({ ...options, preset, alpha: 1 });
    // Without a grid it throws where it has anchors, and not where it has none: see below.
    const tokens = (source: TokenSource): TokenSource =>
      source.grid ? source : { ...source, grid: { rows: 1, columns: source.length } };
    for (const { name, run } of reducerConformance({ create, tokens })) test(name, run);
  });
}

function tokensOf(object: Float32Array, deep: Float32Array, grid?: Grid): TokenSource {
  return createTokens({
    length: object.length,
    ...(grid && { grid }),
    signals: [
      { ...attentionReceived({ queries: 'all', layer: scaledLayer(8, 24) }), values: object },
      { ...attentionReceived({ queries: 'all' }), values: deep },
    ],
  });
}

describe('the official code', () => {
  /** [1 + N], the class token first. */
  const read = (text: string): Float32Array =>
    new Float32Array(new Uint8Array(Buffer.from(text, 'base64')).buffer);

  for (const {
    name,
    length,
    keepCount,
    alpha,
    object,
    deep,
    kept,
    anchors,
    aroundAnchors,
  } of official.cases) {
    const side = Math.sqrt(length);
    const tokens = tokensOf(read(object).subarray(1), read(deep).subarray(1), { rows: side, columns: side });

    if (!kept) {
      it(`${name}: raises on this grid; here it does not`, async () => {
        const plan = await planTokens(hiprune({ keepCount, alpha, preset: 'official-code' }), tokens);
        expect(plan.outputLength).toBe(keepCount);
      });
      continue;
    }
    it(`${name}: keeps the same tokens`, async () => {
      const plan = await planTokens(hiprune({ keepCount, alpha, preset: 'official-code' }), tokens);
      expect([...plan.sources]).toEqual(kept);
      expect(plan.warnings).toEqual([]);
    });
    it(`${name}: as many anchors, and tokens around them`, async () => {
      // A deep signal that falls from token to token, so that registers are the first tokens.
      const falling = Float32Array.from({ length }, (_, i) => 1 - i / length);
      const few = tokensOf(read(object).subarray(1), falling, { rows: side, columns: side });
      const plan = await planTokens(hiprune({ keepCount, alpha, preset: 'official-code' }), few);
      const ranked = [...read(object).subarray(1).entries()].sort(([, a], [, b]) => b - a);
      const top = ranked.slice(0, anchors).map(([token]) => token);
      const around = new Set(top.flatMap((t) => [t, ...clampedNeighbours(t, { rows: side, columns: side })]));
      expect(around.size).toBe(aroundAnchors);
      const registers = [...falling.keys()].filter((t) => !around.has(t)).slice(0, keepCount - around.size);
      expect([...plan.sources]).toEqual([...around, ...registers].sort((a, b) => a - b));
    });
  }

  it('on proper borders keeps others, where anchors stand at them', async () => {
    const { object, deep, keepCount, alpha, kept } = official.cases[3];
    const grid = { rows: 24, columns: 24 };
    const tokens = tokensOf(read(object).subarray(1), read(deep).subarray(1), grid);
    const plan = await planTokens(hiprune({ keepCount, alpha }), tokens);
    expect([...plan.sources]).not.toEqual(kept);
    expect(plan.outputLength).toBe(keepCount);
  });
});

/** 5 x 4 tokens; most attended in the middle layer is 7, at the right border, then 17, 0. */
const grid = { rows: 5, columns: 4 };
const object = new Float32Array(20).fill(0.01).with(7, 0.4).with(17, 0.3).with(0, 0.2);
/** In the deep layer 10, then 9, 12, 7, and the others as they stand. */
const deep = Float32Array.from({ length: 20 }, (_, i) => 0.1 - i / 1000)
  .with(10, 0.9)
  .with(9, 0.8)
  .with(12, 0.7)
  .with(7, 0.6);
const tokens = tokensOf(object, deep, grid);

const keep = async (options: HipruneOptions, source = tokens): Promise<number[]> => [
  ...(await planTokens(hiprune(options), source)).sources,
];

describe('hiprune', () => {
  it('keeps anchors, their neighbours, and of the rest what the deep layer attends to', async () => {
    // round(5 * 1 / 5) = 1 anchor: 7, with 3 above, 6 on its left, 11 below; one register: 10.
    expect(await keep({ keepCount: 5, alpha: 1 })).toEqual([3, 6, 7, 10, 11]);
    // round(10 * 1 / 5) = 2 anchors: 17 too, with 13, 16, 18; two registers: 10, 9.
    expect(await keep({ keepCount: 10, alpha: 1 })).toEqual([3, 6, 7, 9, 10, 11, 13, 16, 17, 18]);
  });

  it('runs on into the next row, and clamps, as the official code does', async () => {
    // 7: 6, 8, 3, 11; no register left.
    expect(await keep({ keepCount: 5, alpha: 1, preset: 'official-code' })).toEqual([3, 6, 7, 8, 11]);
    // 17: 16, 18, 13, and 21, which becomes 19.
    const ten = [3, 6, 7, 8, 11, 13, 16, 17, 18, 19];
    expect(await keep({ keepCount: 10, alpha: 1, preset: 'official-code' })).toEqual(ten);
    // 0: -1 and -4, which become 0; 1 and 4; two registers: 10, 9.
    const fifteen = [0, 1, ...[3, 4, 6, 7, 8], 9, 10, 11, 13, 16, 17, 18, 19].sort((a, b) => a - b);
    expect(await keep({ keepCount: 15, alpha: 1, preset: 'official-code' })).toEqual(fifteen);
  });

  it.each([
    // round(count * alpha / 5), half to even
    [1, 1, 0],
    [2, 1, 0],
    [3, 1, 1],
    [12, 1, 2], // 2.4
    [13, 1, 3], // 2.6
    [10, 0.25, 0], // .5
    [10, 0.75, 2], // 1.5
    [15, 0.5, 2], // 1.5
    [5, 0.5, 0], // .5
    [19, 0.1, 0], // .38
    [19, 0, 0],
  ])('of %i tokens, alpha %f: %i anchors', async (keepCount, alpha, anchors) => {
    // In a row of tokens far apart each anchor that is counted brings its two neighbours with it.
    const places = [3, 9, 15, 21, 27];
    const attended = Float32Array.from({ length: 100 }, (_, i) => (places.includes(i) ? 1 - i / 100 : 0));
    const end = Float32Array.from({ length: 100 }, (_, i) => i / 100); // registers are the last tokens
    const row = tokensOf(attended, end, { rows: 1, columns: 100 });
    const kept = await keep({ keepCount, alpha }, row);
    expect(places.filter((place) => kept.includes(place))).toEqual(places.slice(0, anchors));
    expect(kept).toHaveLength(keepCount);
  });

  it('keeps anchors first, then neighbours of the first, and says so, where the budget holds no more', async () => {
    const plan = (keepCount: number, preset: 'grid' | 'official-code' = 'grid'): Promise<ReductionPlan> =>
      planTokens(hiprune({ keepCount, alpha: 1, preset }), tokens);
    // round(3 / 5) = 1 anchor: 7, then 6 and 3 (it has no right neighbour).
    const three = await plan(3);
    expect([...three.sources]).toEqual([3, 6, 7]);
    expect(three.warnings).toEqual([
      'anchors (1) and their neighbours are more than the 3 tokens to keep: 1 of the neighbours left out',
    ]);
    // round(8 / 5) = 2: 7 with 6, 8, 3, 11, then 17 with 16, 18 and 13, 19 of which there is room for one.
    const eight = await plan(8, 'official-code');
    expect([...eight.sources]).toEqual([3, 6, 7, 8, 11, 16, 17, 18]);
    expect(eight.warnings).toHaveLength(1);
    expect((await plan(10)).warnings).toEqual([]);
  });

  it('never takes a token as register twice', async () => {
    const same = tokensOf(object, object, grid); // the anchors are what the deep layer attends to as well
    expect(await keep({ keepCount: 5, alpha: 1 }, same)).toEqual([3, 6, 7, 11, 17]);
  });

  it('needs a grid only where it has anchors', async () => {
    const without = tokensOf(object, deep);
    expect(await keep({ keepCount: 3 }, without)).toEqual([9, 10, 12]); // round(.06) anchors
    expect(await keep({ keepRatio: 1, alpha: 1 }, without)).toHaveLength(20); // all
    for (const preset of ['grid', 'official-code'] as const) {
      await expect(keep({ keepCount: 5, alpha: 1, preset }, without)).rejects.toThrow(GridRequiredError);
    }
  });

  it('reads what all queries attend to, in layer 8 of 24 and where the features are', () => {
    const [middle, last] = [scaledLayer(8, 24), scaledLayer(20, 24)].map((layer) =>
      attentionReceived({ queries: 'all', layer }),
    );
    const deepest = attentionReceived({ queries: 'all' });
    expect(requestsOf(hiprune().requires, atFeatures)).toEqual([middle, deepest]);
    expect(requestsOf(hiprune({ objectLayer: 20 }).requires, atFeatures)).toEqual([last, deepest]);
  });

  it('is the official code at its defaults, keeping a quarter', () => {
    expect(hipruneEntry.options.map(({ option, default: value }) => [option, value])).toEqual([
      ['keepRatio', '0.25'],
      ['keepCount', ''],
      ['alpha', '0.1'],
      ['objectLayer', '8'],
      ['preset', 'grid'],
    ]);
  });

  it.each([
    [{ alpha: 1.5 }, 'alpha must be a number in [0, 1]'],
    [{ objectLayer: 24 }, 'objectLayer must be an integer from 0 to 23'],
    [{ preset: 'paper' }, "preset must be 'grid' or 'official-code'"],
    [{ attentionMass: 0.8 }, 'option must be one of keepRatio, keepCount, alpha, objectLayer, preset'],
  ])('refuses %j', (options, message) => {
    expect(() => hiprune(options as HipruneOptions)).toThrow(InvalidArgumentError);
    expect(() => hiprune(options as HipruneOptions)).toThrow(message);
  });

  it('is made from text', () => {
    const { name } = hipruneEntry.create({ count: '64', alpha: '0.5', preset: 'official-code' });
    expect(name).toBe(hipruneEntry.name);
  });
});

describe('neighbours', () => {
  it('are at distance one in the grid, and all of them', () => {
    for (const [rows, columns] of [1, 2, 3, 5].flatMap((r) => [1, 2, 4].map((c) => [r, c]))) {
      for (let token = 0; token < rows * columns; token++) {
        const distance = (other: number): number =>
          Math.abs(Math.floor(token / columns) - Math.floor(other / columns)) +
          Math.abs((token % columns) - (other % columns));
        const near = Array.from({ length: rows * columns }, (_, i) => i).filter((i) => distance(i) === 1);
        expect(gridNeighbours(token, { rows, columns }).sort((a, b) => a - b)).toEqual(near);
      }
    }
  });

  it('inside the grid are the same by either rule', () => {
    expect(clampedNeighbours(27, { rows: 24, columns: 24 })).toEqual([26, 28, 3, 51]);
    expect(gridNeighbours(27, { rows: 24, columns: 24 })).toEqual([26, 28, 3, 51]);
  });
});
