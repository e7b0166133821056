import {
  beforeLanguageLayer,
  createTokens,
  hiddenStates,
  InvalidArgumentError,
  keyMagnitude,
  planTokens,
  questionKeyMagnitude,
  questionStates,
  requestsOf,
  scaledLayer,
  type TokenReducer,
  type TokenSource,
} from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import official from '../fixtures/official-cases.json' with { type: 'json' };
import { dart, dartEntry, type DartOptions } from './dart.js';
import { inSetOrder } from './pivots.js';

describe('conforms', () => {
  for (const { name, run } of reducerConformance({ create: dart })) test(name, run);
});

describe('conforms: official-code', () => {
  const create = (options: DartOptions): TokenReducer => dart({ ...options, preset: 'official-code' });
  const cases = reducerConformance({
    create,
    expectedLength: (budget, { length }) => {
      const count =
        'keepCount' in budget ? budget.keepCount : Math.max(1, Math.floor(length * budget.keepRatio + 1e-9));
      const images = Math.min(4, length);
      const pivots = images + 3; // three tokens behind the image, in what is generated
      return count >= length ? length : Math.min(length, images + Math.floor(count / pivots) * pivots);
    },
  });
  for (const { name, run } of cases) test(name, run);
});

interface Signals {
  readonly magnitude: readonly number[];
  readonly questionMagnitude: readonly number[];
  /** [N][D] and [T][D] */
  readonly hidden: readonly (readonly number[])[];
  readonly question: readonly (readonly number[])[];
  readonly places?: readonly number[];
}

/** Layer 1's, as layer 2 asks for them. */
function tokensOf({ magnitude, questionMagnitude, hidden, question, places }: Signals): TokenSource {
  const of = { layer: 1, norm: 'final' } as const;
  return createTokens({
    length: magnitude.length,
    ...(places && { places: Uint32Array.from(places) }),
    signals: [
      { ...keyMagnitude({ layer: 1 }), values: Float32Array.from(magnitude) },
      { ...questionKeyMagnitude({ layer: 1 }), values: Float32Array.from(questionMagnitude) },
      { ...hiddenStates(of), values: Float32Array.from(hidden.flat()) },
      { ...questionStates(of), values: Float32Array.from(question.flat()) },
    ],
  });
}

type OfficialCase = (typeof official.cases)[number];

/** The signals of a case, as a runner would have them. */
function signalsOf(given: OfficialCase): Required<Signals> {
  const { imageStart, length, question, heads, headDim, channels } = given;
  const read = (text: string): Float32Array =>
    new Float32Array(new Uint8Array(Buffer.from(text, 'base64')).buffer);
  const [hidden, keys] = [read(given.hidden), read(given.keys)];
  const count = imageStart + length + question;
  const places = Array.from({ length: count }, (_, place) => place);
  const states = places.map((place) => [...hidden.subarray(place * channels, (place + 1) * channels)]);
  const magnitudes = places.map((place) => {
    let sum = 0;
    for (let head = 0; head < heads; head++) {
      const start = (head * count + place) * headDim;
      for (const key of keys.subarray(start, start + headDim)) sum += Math.abs(key);
    }
    return sum;
  });
  const end = imageStart + length;
  return {
    magnitude: magnitudes.slice(imageStart, end),
    questionMagnitude: magnitudes.slice(end),
    hidden: states.slice(imageStart, end),
    question: states.slice(end),
    places: places.slice(imageStart, end),
  };
}

const budgetOfCase = ({ keepCount, reductionRatio }: OfficialCase): DartOptions =>
  keepCount === undefined ? { keepRatio: 1 - reductionRatio } : { keepCount };

describe('the official code', () => {
  for (const given of official.cases) {
    const { name, kept, imageStart, imagePivots, questionPivots } = given;
    const pivots = { imagePivots, questionPivots };

    it(`${name}: visits the same pivots in the same order`, () => {
      const { magnitude, questionMagnitude, places } = signalsOf(given);
      const top = (values: readonly number[], count: number): number[] =>
        [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, count);
      const order = inSetOrder(top(magnitude, imagePivots), top(questionMagnitude, questionPivots), places);
      const behind = imageStart + given.length;
      expect(order.map(({ of, index }) => index + (of === 'image' ? imageStart : behind))).toEqual(
        given.pivotOrder,
      );
    });

    it(`${name}: keeps the same tokens`, async () => {
      const options: DartOptions = { ...budgetOfCase(given), ...pivots, preset: 'official-code' };
      const plan = await planTokens(dart(options), tokensOf(signalsOf(given)));
      expect(Array.from(plan.sources, (token) => imageStart + token)).toEqual(kept);
    });

    it(`${name}: is what the default keeps where it is asked for as many as went out`, async () => {
      const options: DartOptions = { keepCount: kept.length, ...pivots };
      const plan = await planTokens(dart(options), tokensOf(signalsOf(given)));
      expect(Array.from(plan.sources, (token) => imageStart + token)).toEqual(kept);
    });

    it(`${name}: keeps other tokens in another order of the pivots, as the set's order follows places`, async () => {
      // Places from another start: the same tokens, and mostly other turns.
      const signals = signalsOf(given);
      const plans = await Promise.all(
        Array.from({ length: 16 }, (_, shift) => {
          const places = signals.places.map((place) => place + shift);
          return planTokens(dart({ keepCount: kept.length, ...pivots }), tokensOf({ ...signals, places }));
        }),
      );
      expect(new Set(plans.map(({ sources }) => sources.join())).size).toBeGreaterThan(1);
    });
  }
});

/**
 * Eight visual tokens at places 5 to 12, with directions in the plane; the largest keys are of 2, then 6.
 * Three tokens behind: the largest key is of the second.
 */
const direction = (degrees: number): number[] => [
  Math.cos((degrees * Math.PI) / 180),
  Math.sin((degrees * Math.PI) / 180),
];
const signals: Signals = {
  magnitude: [1, 2, 9, 3, 1, 2, 8, 1],
  questionMagnitude: [4, 7, 5],
  hidden: [0, 40, 10, 60, 95, 100, 90, 170].map(direction),
  question: [0, 80, 0].map(direction),
  places: [5, 6, 7, 8, 9, 10, 11, 12],
};

const keep = async (options: DartOptions, given = signals): Promise<number[]> => [
  ...(await planTokens(dart(options), tokensOf(given))).sources,
];

describe('dart', () => {
  it('keeps image pivots, and for each pivot in turn what is least similar to it', async () => {
    const options = { imagePivots: 2, questionPivots: 1 };
    // Pivots at 7, 11 and 14. In a table of eight slots 11 is in slot 3, 14 in 6, 7 in 7: their turns.
    // 6 (90 degrees): 0 is least similar. The question's (80): 7 (170). 2 (10): of 95 and 100 the latter, 5.
    expect(await keep({ ...options, keepCount: 5 })).toEqual([0, 2, 5, 6, 7]);
    // One more goes to the first: 6 takes 0, then 7 (170: cosine of 80 degrees); the question's 1 (40, behind
    // them); 2 takes 5.
    expect(await keep({ ...options, keepCount: 6 })).toEqual([0, 1, 2, 5, 6, 7]);
  });

  it('asks the larger of two pivots first, where their places meet in the table', () => {
    // 0 and 8 both belong into the first of eight slots; whoever comes first has it.
    const places = Array.from({ length: 9 }, (_, place) => place);
    expect(inSetOrder([8, 0], [], places).map(({ index }) => index)).toEqual([8, 0]);
    expect(inSetOrder([0, 8], [], places).map(({ index }) => index)).toEqual([0, 8]);
  });

  it('takes its pivots by descending size', async () => {
    // One token is left to take, by whichever of 0 and 8 has the larger key: by 0 (0 degrees) it is 3, by 8
    // (90 degrees) it is 4.
    const hidden = [0, 40, 90, 181, 300, 95, 60, 30, 90].map(direction);
    const of = (first: number, second: number): Signals => ({
      magnitude: [first, 1, 1, 1, 1, 1, 1, 1, second],
      questionMagnitude: [1],
      hidden,
      question: [[1, 0]],
    });
    const options = { imagePivots: 2, questionPivots: 0, keepCount: 3 };
    expect(await keep(options, of(6, 5))).toEqual([0, 3, 8]);
    expect(await keep(options, of(5, 6))).toEqual([0, 4, 8]);
  });

  it('counts as the official code does where it is told to', async () => {
    const options = { imagePivots: 2, questionPivots: 1, preset: 'official-code' } as const;
    expect(await keep({ ...options, keepCount: 2 })).toEqual([2, 6]); // floor(2 / 3): only the pivots
    expect(await keep({ ...options, keepCount: 3 })).toEqual([0, 2, 5, 6, 7]); // and one each
    expect(await keep({ ...options, keepCount: 5 })).toEqual([0, 2, 5, 6, 7]);
    expect(await keep({ ...options, keepCount: 6 })).toHaveLength(8); // two each: all that is left
    expect(await keep({ preset: 'official-code', keepCount: 1 })).toEqual([1, 2, 3, 6]); // four pivots
  });

  it('keeps the largest keys alone where the budget holds no more', async () => {
    expect(await keep({ keepCount: 1 })).toEqual([2]);
    expect(await keep({ keepCount: 3 })).toEqual([2, 3, 6]);
    expect(await keep({ keepCount: 4 })).toEqual([1, 2, 3, 6]); // 2 twice, at 1 and 5
  });

  it('does without pivots of the question', async () => {
    expect(await keep({ imagePivots: 1, questionPivots: 0, keepCount: 2 })).toEqual([2, 7]);
  });

  it('takes the pivots that there are, where the question is short', async () => {
    const short = { ...signals, questionMagnitude: [7], question: [direction(80)] };
    expect(await keep({ imagePivots: 2, questionPivots: 4, keepCount: 5 }, short)).toHaveLength(5);
    expect(await keep({ imagePivots: 2, preset: 'official-code', keepCount: 3 }, short)).toHaveLength(5);
  });

  it('without places counts them from 0, as they are', async () => {
    const { places, ...without } = signals;
    const fromZero = { ...without, places: (places ?? []).map((_, index) => index) };
    for (const keepCount of [5, 6, 7]) {
      expect(await keep({ keepCount }, without)).toEqual(await keep({ keepCount }, fromZero));
    }
  });

  it('acts before layer 2 of 32, on the layer before, in shallower models as far on the way', () => {
    const { at, requires, positions = 'original' } = dart();
    expect(at).toEqual([beforeLanguageLayer(scaledLayer(2, 32))]);
    expect(positions).toBe('original');
    const of = { layer: 1, norm: 'final' } as const;
    expect(requestsOf(requires, at[0])).toEqual([
      keyMagnitude({ layer: 1 }),
      questionKeyMagnitude({ layer: 1 }),
      hiddenStates(of),
      questionStates(of),
    ]);
    expect(dart({ layer: 9 }).at).toEqual([beforeLanguageLayer(scaledLayer(9, 32))]);
  });

  it('is the official code at its defaults, keeping a quarter', () => {
    expect(dartEntry.options.map(({ option, default: value }) => [option, value])).toEqual([
      ['keepRatio', '0.25'],
      ['keepCount', ''],
      ['layer', '2'],
      ['imagePivots', '4'],
      ['questionPivots', '4'],
      ['preset', 'exact'],
    ]);
  });

  it.each([
    [{ layer: 0 }, 'layer must be an integer from 1 to 31'],
    [{ layer: 32 }, 'layer must be an integer from 1 to 31'],
    [{ imagePivots: 0 }, 'imagePivots must be an integer, 1 or more'],
    [{ questionPivots: -1 }, 'questionPivots must be an integer, 0 or more'],
    [{ preset: 'paper' }, "preset must be 'exact' or 'official-code'"],
  ])('refuses %j', (options, message) => {
    expect(() => dart(options as DartOptions)).toThrow(InvalidArgumentError);
    expect(() => dart(options as DartOptions)).toThrow(message);
  });

  it('is made from text', () => {
    const { name, at } = dartEntry.create({ count: '132', layer: '3', preset: 'official-code' });
    expect({ name, at }).toEqual({ name: dartEntry.name, at: [beforeLanguageLayer(scaledLayer(3, 32))] });
  });
});
