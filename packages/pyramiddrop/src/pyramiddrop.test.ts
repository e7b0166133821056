import {
  beforeLanguageLayer,
  createTokens,
  InvalidArgumentError,
  planTokens,
  promptAttention,
  requestsOf,
  scaledLayer,
  type Budget,
  type ReductionPlan,
  type TokenReducer,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import official from '../fixtures/official-cases.json' with { type: 'json' };
import { pyramiddrop, pyramiddropEntry, type PyramiddropOptions } from './pyramiddrop.js';

/** The factor by which layers 8, 16 and 24 of 32 leave this mean share, by Newton's way: f + f^2 + f^3 = 4 share - 1. */
function factorFor(share: number): number {
  let factor = 1;
  for (let step = 0; step < 200; step++) {
    const excess = 1 + factor + factor ** 2 + factor ** 3 - 4 * share;
    factor = Math.max(0, factor - excess / (1 + 2 * factor + 3 * factor ** 2));
  }
  return factor;
}

function expectedLength(budget: Budget, { length }: { length: number }, stage: number): number {
  const count =
    'keepCount' in budget ? budget.keepCount : Math.max(1, Math.floor(length * budget.keepRatio + 1e-9));
  if (count >= length) return length;
  return Math.max(1, Math.floor(length * factorFor(count / length) ** (stage + 1) + 1e-9));
}

describe('conforms', () => {
  const cases = reducerConformance({ create: pyramiddrop, ranks: 'tokens', expectedLength });
  for (const { name, run } of cases) test(name, run);
});

const read = (text: string): Float32Array =>
  new Float32Array(new Uint8Array(Buffer.from(text, 'base64')).buffer);

type OfficialCase = (typeof official.cases)[number];

/** Plans for `scores` at a stage, `entered` tokens having entered. */
function planAt(
  reducer: TokenReducer,
  stage: number,
  scores: Float32Array,
  entered: number,
): Promise<ReductionPlan> {
  const site = reducer.at[stage];
  const [request] = requestsOf(reducer.requires, site);
  const signals = [{ ...request, values: scores }];
  return planTokens(reducer, createTokens({ length: scores.length, entered, signals }), site, stage);
}

/** Places of what each stage keeps, where `scoresOf` says what it sees from the places before. */
async function keptPlaces(
  { imageStart, length, layers, ratios }: OfficialCase,
  scoresOf: (stage: number, places: readonly number[]) => Float32Array,
): Promise<number[][]> {
  const reducer = pyramiddrop({ layers, ratios });
  let places = Array.from({ length }, (_, token) => imageStart + token);
  const kept: number[][] = [];
  for (const stage of layers.keys()) {
    const { sources } = await planAt(reducer, stage, scoresOf(stage, places), length);
    places = Array.from(sources, (token) => places[token]);
    kept.push(places);
  }
  return kept;
}

describe('the official code', () => {
  for (const given of official.cases) {
    it(`${given.name}: keeps the same tokens of the same scores`, async () => {
      const kept = await keptPlaces(given, (stage) => read(given.stages[stage].scores));
      expect(kept).toEqual(given.stages.map((stage) => stage.kept));
    });

    if (!given.model) continue;
    const { model } = given;
    it(`${given.name}: keeps the same tokens by attention worked out from hidden states`, async () => {
      const kept = await keptPlaces(given, (stage, places) => {
        const scores = nextAttention(given, model, stage, places);
        const recorded = read(given.stages[stage].scores);
        for (const [token, score] of scores.entries()) expect(score).toBeCloseTo(recorded[token], 5);
        return scores;
      });
      expect(kept).toEqual(given.stages.map((stage) => stage.kept));
    });
  }
});

/**
 * What `promptAttention` of the layer 'next' means, written down once more: the layer's own normalisation and
 * projections, positions counted anew over what is left, softmax over all of it, mean over heads.
 */
function nextAttention(
  { imageStart, length, question }: OfficialCase,
  { heads, headDim, epsilon, ropeBase, hidden, layers }: NonNullable<OfficialCase['model']>,
  stage: number,
  visual: readonly number[],
): Float32Array {
  const width = heads * headDim;
  const behind = imageStart + length;
  const places = [
    ...Array.from({ length: imageStart }, (_, place) => place),
    ...visual,
    ...Array.from({ length: question }, (_, token) => behind + token),
  ];
  const weights = layers[stage];
  const [states, norm] = [read(hidden), read(weights.norm)];
  const normed = places.map((place) => {
    const row = states.subarray(place * width, (place + 1) * width);
    const square = row.reduce((sum, value) => sum + value * value, 0) / width;
    return Array.from(row, (value, d) => (value / Math.sqrt(square + epsilon)) * norm[d]);
  });
  const project = (matrix: Float32Array, row: readonly number[], head: number): number[] =>
    Array.from({ length: headDim }, (_, d) =>
      row.reduce((sum, value, i) => sum + value * matrix[(head * headDim + d) * width + i], 0),
    );
  const rotate = (row: readonly number[], position: number): number[] =>
    row.map((value, d) => {
      const half = headDim / 2;
      const angle = position / ropeBase ** ((d % half) / half);
      const other = d < half ? -row[d + half] : row[d - half];
      return value * Math.cos(angle) + other * Math.sin(angle);
    });
  const scores = new Float64Array(visual.length);
  for (let head = 0; head < heads; head++) {
    const last = normed.length - 1;
    const query = rotate(project(read(weights.query), normed[last], head), last);
    const powers = normed.map((row, position) => {
      const key = rotate(project(read(weights.key), row, head), position);
      return Math.exp(key.reduce((sum, value, d) => sum + value * query[d], 0) / Math.sqrt(headDim));
    });
    const total = powers.reduce((sum, power) => sum + power, 0);
    for (const token of visual.keys()) scores[token] += powers[imageStart + token] / total / heads;
  }
  return Float32Array.from(scores);
}

/** Ascending attention, so that what is kept are the last. */
const rising = (length: number): Float32Array => Float32Array.from({ length }, (_, i) => (i + 1) / length);

const lengths = async (options: PyramiddropOptions, entered: number): Promise<number[]> => {
  const reducer = pyramiddrop(options);
  const left = [entered];
  for (const stage of reducer.at.keys()) {
    const before = left[left.length - 1];
    left.push((await planAt(reducer, stage, rising(before), entered)).outputLength);
  }
  return left.slice(1);
};

describe('pyramiddrop', () => {
  it('leaves 1/2, 1/4 and 1/8 of what entered, rounded down', async () => {
    expect(await lengths({}, 576)).toEqual([288, 144, 72]);
    expect(await lengths({}, 63)).toEqual([31, 15, 7]); // 31.5, 15.75, 7.875
    expect(await lengths({}, 3)).toEqual([1, 1, 1]); // at least one
  });

  it('keeps what is attended to most, in its order, ties to the lower index', async () => {
    const scores = Float32Array.of(0.1, 0.4, 0.1, 0.3, 0.1, 0.1, 0.2, 0.1);
    const kept = async (stage: number): Promise<number[]> => [
      ...(await planAt(pyramiddrop(), stage, scores, 8)).sources,
    ];
    expect(await kept(0)).toEqual([0, 1, 3, 6]);
    expect(await kept(1)).toEqual([1, 3]);
    expect(await kept(2)).toEqual([1]);
  });

  it('takes shares of what entered, not of what is left', async () => {
    expect((await planAt(pyramiddrop(), 1, rising(288), 576)).outputLength).toBe(144);
    expect((await planAt(pyramiddrop(), 1, rising(100), 576)).outputLength).toBe(100); // no more are left
  });

  it('rounds as int() of the official code does: .29 of 100 is 28', async () => {
    expect(await lengths({ layers: [2], ratios: [0.29] }, 100)).toEqual([28]); // 28.999999999999996
    expect(await lengths({ layers: [2], ratios: [5 / 64] }, 64)).toEqual([5]);
    expect(await lengths({ layers: [2], ratios: [0] }, 64)).toEqual([1]);
  });

  it('has stages where and as many as it is told to', async () => {
    expect(await lengths({ layers: [4, 20], ratios: [0.75, 0.1] }, 40)).toEqual([30, 4]);
    expect(pyramiddrop({ layers: [4, 20], ratios: [0.75, 0.1] }).at).toEqual([
      beforeLanguageLayer(scaledLayer(4, 32)),
      beforeLanguageLayer(scaledLayer(20, 32)),
    ]);
  });

  describe('with a budget', () => {
    it('is its own schedule where that is the mean', async () => {
      expect(await lengths({ keepCount: 270 }, 576)).toEqual([288, 144, 72]);
      expect(await lengths({ keepRatio: 15 / 32 }, 576)).toEqual([288, 144, 72]);
    });

    it('leaves the same share at each stage of what was left before', async () => {
      // 1/4: (256 + 64 + 16 + 4) / 4; 3/4: (256 + 192 + 144 + 108) / 4.
      expect(await lengths({ keepCount: 85 }, 256)).toEqual([64, 16, 4]);
      expect(await lengths({ keepCount: 175 }, 256)).toEqual([192, 144, 108]);
      // 4/5, which is no binary number: (500 + 400 + 320 + 256) / 4.
      expect(await lengths({ keepCount: 369 }, 500)).toEqual([400, 320, 256]);
    });

    it.each([145, 192, 288, 512, 575])('of %i of 576 has that mean, but for rounding', async (keepCount) => {
      const left = await lengths({ keepCount }, 576);
      const factor = factorFor(keepCount / 576);
      expect(left).toEqual([1, 2, 3].map((power) => Math.max(1, Math.floor(576 * factor ** power))));
      const inTheMean = (576 + left.reduce((sum, count) => sum + count)) / 4;
      expect(Math.abs(inTheMean - keepCount)).toBeLessThan(0.75); // less than one token at three of four quarters
    });

    it('counts the layers of other stages', async () => {
      // (2 + 30 f) / 32 = 1/4: f = .2
      expect(await lengths({ layers: [2], keepCount: 160 }, 640)).toEqual([128]);
    });

    it('leaves one token, and says so, where the first layers see more than the mean', async () => {
      const reducer = pyramiddrop({ keepCount: 128 });
      const { outputLength, warnings } = await planAt(reducer, 0, rising(576), 576);
      expect(outputLength).toBe(1);
      expect(warnings).toEqual([
        'a mean of 128 tokens is out of reach: layers 0 to 7 see all 576, so that 145 is the least, with one token behind them; choose earlier layers',
      ]);
      const reached = await planAt(pyramiddrop({ keepCount: 145 }), 0, rising(576), 576);
      expect(reached.warnings).toEqual([]);
    });
  });

  it('reads the attention of the layer behind each stage, from the prompt’s last token', () => {
    const { at, requires, positions } = pyramiddrop();
    expect(at).toEqual([8, 16, 24].map((layer) => beforeLanguageLayer(scaledLayer(layer, 32))));
    expect(at.map((site) => requestsOf(requires, site))).toEqual(
      [8, 16, 24].map((layer) => [promptAttention({ layer, rows: 'last' })]),
    );
    expect(positions).toBe('renumbered');
  });

  it('has the official schedule by default, and no budget', () => {
    expect(pyramiddropEntry.options.map(({ option, default: value }) => [option, value])).toEqual([
      ['ratios', '0.5/0.25/0.125'],
      ['keepRatio', ''],
      ['keepCount', ''],
      ['layers', '8/16/24'],
    ]);
  });

  it.each([
    [{ layers: [8, 8, 24] }, 'layers must be ascending'],
    [{ layers: [16, 8, 24] }, 'layers must be ascending'],
    [{ layers: [0, 8, 24] }, 'layers[0] must be an integer from 1 to 31'],
    [{ layers: [8, 32] }, 'layers[1] must be an integer from 1 to 31'],
    [{ layers: [8, 16] }, 'ratios must be one for each of the 2 layers'],
    [{ ratios: [0.5] }, 'ratios must be one for each of the 3 layers'],
    [{ ratios: [0.5, 0.25, 1.125] }, 'ratios[2] must be a number in [0, 1]'],
    [{ ratios: [0.5, 0.25, 0.125], keepCount: 3 }, 'must be given one at a time'],
  ])('refuses %j', (options, message) => {
    expect(() => pyramiddrop(options as PyramiddropOptions)).toThrow(InvalidArgumentError);
    expect(() => pyramiddrop(options as PyramiddropOptions)).toThrow(message);
  });

  it('is made from text', () => {
    const { name, at } = pyramiddropEntry.create({ layers: '2/10', ratios: '0.5/0.1' });
    expect({ name, at }).toEqual({
      name: pyramiddropEntry.name,
      at: [beforeLanguageLayer(scaledLayer(2, 32)), beforeLanguageLayer(scaledLayer(10, 32))],
    });
    expect(pyramiddropEntry.create({ layers: '4', count: '64' }).at).toHaveLength(1);
  });
});
