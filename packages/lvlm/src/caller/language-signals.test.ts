/**
 * What the language model of every family and precision gives of itself, by what holds of any: attention of the
 * next layer is what that layer pays where all tokens go on, the question's attention is the prompt's token by
 * token, and so on. And a method that keeps all tokens changes nothing, whatever it looks at.
 */
import {
  beforeLanguageLayer,
  defineReducer,
  hiddenChange,
  hiddenStates,
  identityPlan,
  keyMagnitude,
  promptAttention,
  questionAttention,
  questionKeyMagnitude,
  questionRelevance,
  questionStates,
  textEmbeddings,
  type VisualTokens,
} from '@foveate/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CACHE } from '../../test/bundles.js';
import { familyBundle, familyCases, familyPicture } from '../../test/families.js';
import { Lvlm, type LoadOptions } from '../index.js';

const requires = {
  next: promptAttention({ layer: 'next' }),
  nextMean: promptAttention({ layer: 'next', rows: 'mean' }),
  last: promptAttention(),
  mean: promptAttention({ rows: 'mean' }),
  question: questionAttention(),
  states: hiddenStates(),
  normalized: hiddenStates({ norm: 'final' }),
  questionStates: questionStates(),
  questionNormalized: questionStates({ norm: 'final' }),
  moved: hiddenChange(),
  keys: keyMagnitude(),
  questionKeys: questionKeyMagnitude(),
  relevance: questionRelevance(),
  text: textEmbeddings(),
};
type Seen = VisualTokens<typeof requires>;

/** Keeps all tokens, counted anew, and notes what it sees before layers 1 and 2. */
function keepsAll() {
  const seen: Seen[] = [];
  const reducer = defineReducer({
    name: 'keeps-all',
    at: [beforeLanguageLayer(1), beforeLanguageLayer(2)],
    requires,
    positions: 'renumbered',
    plan: async (tokens) => {
      seen.push(tokens);
      return identityPlan(tokens.length);
    },
  });
  return { reducer, seen };
}

/** Largest difference, as a share of the largest value. */
function distance(values: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(values.length).toBe(expected.length);
  const wanted = Array.from(expected);
  const size = wanted.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return wanted.reduce((most, value, i) => Math.max(most, Math.abs(value - values[i])), 0) / size;
}

const rowOf = (values: Float32Array, rows: number, row: number): Float32Array => {
  const width = values.length / rows;
  return values.subarray(row * width, (row + 1) * width);
};

/** [tokens] the length of each row's difference. */
function lengths(after: Float32Array, before: Float32Array, tokens: number): number[] {
  return Array.from({ length: tokens }, (_, i) =>
    Math.hypot(...rowOf(after, tokens, i).map((value, d) => value - rowOf(before, tokens, i)[d])),
  );
}

/** The scale of an RMSNorm, by what it made of a row. */
function scaleBy(normalized: Float32Array, row: Float32Array): Float32Array {
  const root = Math.sqrt(row.reduce((sum, value) => sum + value * value, 0) / row.length + 1e-6);
  return normalized.map((value, d) => (value * root) / row[d]);
}

const DTYPES: readonly (readonly [
  family: string,
  dtype: NonNullable<LoadOptions['dtype']>,
  rounding: number,
])[] = [
  ...[
    'llava',
    'llava_clip',
    'llava_next',
    'llava_onevision',
    'idefics3',
    'smolvlm',
    'qwen2_vl',
    'qwen2_5_vl',
  ].map((family) => [family, 'fp32', 1e-4] as const),
  ...['llava', 'qwen2_vl'].flatMap((family) => [
    [family, { decoder_model_merged: 'fp16', embed_tokens: 'fp16', vision_encoder: 'fp32' }, 2e-2] as const,
    [family, { decoder_model_merged: 'q4', embed_tokens: 'fp32', vision_encoder: 'fp32' }, 1e-4] as const,
    [family, 'q8', 1e-1] as const,
  ]),
];

describe.each(DTYPES)('%s in %o', (family, dtype, rounding) => {
  let model: Lvlm;
  beforeAll(async () => {
    model = await Lvlm.load(familyBundle(family), { dtype, cacheDirectory: CACHE });
  });
  afterAll(() => model.dispose());

  test.each(familyCases(family))('$pictures', async ({ pictures, text, tokens }) => {
    const { reducer, seen } = keepsAll();
    const ask = { images: pictures.map(familyPicture), prompt: text, maxNewTokens: 8 };
    const { tokenIds, warnings } = await model.generate({ ...ask, reducers: [reducer] });
    if (dtype === 'fp32') expect(tokenIds).toEqual(tokens);
    expect(warnings.filter((one) => one.includes('several axes'))).toHaveLength(
      family.startsWith('qwen') ? 1 : 0,
    );
    const [first, second] = seen;
    expect(second.entered).toBe(first.length);
    expect(second.places).toEqual(first.places);
    expect(distance(first.signals.next, second.signals.last)).toBeLessThan(rounding);
    expect(distance(first.signals.nextMean, second.signals.mean)).toBeLessThan(rounding);
    for (const { length, signals } of seen) {
      const asking = signals.relevance.length;
      const attention = Array.from({ length }, (_, v) => rowOf(signals.question, length, v));
      expect(
        distance(
          signals.last,
          attention.map((row) => row[asking - 1]),
        ),
      ).toBeLessThan(rounding);
      const means = attention.map((row) => row.reduce((a, b) => a + b, 0) / asking);
      expect(distance(signals.mean, means)).toBeLessThan(rounding);
      expect(signals.relevance.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5);
      expect([signals.questionKeys.length, signals.keys.length]).toEqual([asking, length]);
      const scale = scaleBy(rowOf(signals.normalized, length, 0), rowOf(signals.states, length, 0));
      const ofQuestion = scaleBy(
        rowOf(signals.questionNormalized, asking, asking - 1),
        rowOf(signals.questionStates, asking, asking - 1),
      );
      expect(distance(ofQuestion, scale)).toBeLessThan(10 * rounding);
    }
    const moved = lengths(second.signals.states, first.signals.states, first.length);
    expect(distance(second.signals.moved, moved)).toBeLessThan(rounding);
  });
});
