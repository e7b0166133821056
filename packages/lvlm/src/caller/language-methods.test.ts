/**
 * Methods of several sites, of every signal and of every kind of plan, on every form of the language model:
 * what they see, what they decide and what comes of it is what test/llama.ts computes in plain JS, each token
 * anew through all layers without any cache.
 */
import {
  beforeLanguageLayer,
  defineReducer,
  hiddenChange,
  hiddenStates,
  keyMagnitude,
  mergePlan,
  promptAttention,
  questionAttention,
  questionKeyMagnitude,
  questionRelevance,
  questionStates,
  selectionPlan,
  similarityBy,
  textEmbeddings,
  topIndicesAscending,
  type ReductionPlan,
  type Requirements,
  type Similarity,
  type TokenReducer,
  type VisualTokens,
} from '@foveate/core';
import { dart } from '@foveate/dart';
import { priortr } from '@foveate/priortr';
import { pyramiddrop } from '@foveate/pyramiddrop';
import { sparsevlm } from '@foveate/sparsevlm';
import { v2drop } from '@foveate/v2drop';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CACHE, picture } from '../../test/bundles.js';
import {
  ALL_FORMS,
  enteringRows,
  languageModel,
  referenceAnswer,
  type LanguageModel,
} from '../../test/language-models.js';
import { readBundle, type Bundle } from '../bundle/bundle.js';
import { preprocess } from '../bundle/preprocessing.js';
import { Lvlm, type GenerateResult } from '../index.js';
import { decodeImage } from '../platform/image-files.js';
import { resize } from '../platform/node.js';
import { reductionChain } from './reduction-chain.js';

const PROMPT = 'What is this?';
const VISUAL = 64;
const LAYERS = 4;

/** What a method saw at one of its sites. */
type Seen = VisualTokens & { readonly stage: number; readonly cosines: Float32Array | null };

/** A method that notes what it sees. */
interface Method {
  readonly at: readonly number[];
  readonly requires: Requirements;
  readonly positions: 'original' | 'renumbered';
  /** Tokens that are left of so many, one number a site. */
  readonly left: (entered: number) => readonly number[];
  readonly plan: (tokens: Seen) => ReductionPlan;
}

/** Methods as they are published, on a model of far fewer layers than they were made for. */
const PUBLISHED: Readonly<Record<string, () => TokenReducer>> = {
  dart: () => dart({ keepRatio: 0.5 }),
  priortr: () => priortr({ keepRatio: 0.25 }),
  pyramiddrop: () => pyramiddrop(),
  sparsevlm: () => sparsevlm({ keepRatio: 0.5 }),
  v2drop: () => v2drop({ keepRatio: 0.5 }),
};

/** The method at the layers where the model has it act, and with a seed that is not the image's. */
function inModel(method: TokenReducer): TokenReducer {
  const seeded: TokenReducer = {
    ...method,
    plan: (tokens, site, stage) => method.plan({ ...tokens, imageHash: 'seed' }, site, stage),
  };
  const { language } = reductionChain([seeded], { vision: 2, language: LAYERS });
  return { ...seeded, at: language.map(({ site }) => site) };
}

/** The mean row of `values` [T, D] as one. */
function meanRow(values: Float32Array, rows: number): Float32Array {
  const width = values.length / rows;
  return Float32Array.from({ length: width }, (_, d) => {
    let sum = 0;
    for (let row = 0; row < rows; row++) sum += values[row * width + d];
    return sum / rows;
  });
}

const METHODS: Readonly<Record<string, Method>> = {
  'keeps by attention of the layer behind each of three sites, renumbered': {
    at: [1, 2, 3],
    requires: { attention: promptAttention({ layer: 'next' }) },
    positions: 'renumbered',
    left: (entered) => [0.5, 0.25, 0.125].map((share) => entered * share),
    plan: ({ length, entered, stage, signals }) => {
      const count = (entered ?? length) * [0.5, 0.25, 0.125][stage];
      return selectionPlan(topIndicesAscending(signals.attention, count), length);
    },
  },
  'keeps by keys and by cosines to the question, where tokens stood': {
    at: [1, 3],
    requires: {
      magnitude: keyMagnitude({ layer: 'before' }),
      ofQuestion: questionKeyMagnitude({ layer: 'before' }),
      states: hiddenStates({ layer: 'before', norm: 'final' }),
      similar: similarityBy(hiddenStates({ layer: 'before', norm: 'final' })),
      question: questionStates({ layer: 'before', norm: 'final' }),
    },
    positions: 'original',
    left: (entered) => [entered / 2, entered / 4],
    plan: ({ length, signals, cosines }) => {
      const magnitude = signals.magnitude;
      const least = magnitude.reduce((a, b) => Math.min(a, b));
      const score = magnitude.map((value, i) => value / least - 2 * cosines![i]);
      return selectionPlan(topIndicesAscending(score, length / 2), length);
    },
  },
  'merges what moved least to the end of the image, renumbered': {
    at: [1, 2, 3],
    requires: {
      moved: hiddenChange({ layer: 'before' }),
      attention: questionAttention({ layer: 'before' }),
      relevance: questionRelevance(),
      text: textEmbeddings(),
      plain: hiddenStates({ layer: 'before' }),
    },
    positions: 'renumbered',
    left: (entered) => [entered - 14, entered - 28, entered - 42],
    plan: ({ length, spans, signals }) => mergeToTheEnd(length, spans, signals),
  },
};

/**
 * Of the first image: the sixteen tokens of the least score, eight each, as two sums of weights that do not
 * sum to 1, the later one first, behind all that stay.
 */
function mergeToTheEnd(
  length: number,
  spans: VisualTokens['spans'],
  { moved, attention, relevance }: Record<string, Float32Array>,
): ReductionPlan {
  const asked = relevance.length;
  const score = moved.map((change, v) => {
    let sum = change;
    for (let t = 0; t < asked; t++) sum += 10 * relevance[t] * attention[v * asked + t];
    return -sum;
  });
  const [image] = spans;
  const ofImage = score.subarray(0, image.length);
  const merged = topIndicesAscending(ofImage, 16);
  const isMerged = new Set(merged);
  const stays = (token: number) => ({ sources: [token], weights: [1] });
  const kept = Array.from({ length }, (_, i) => i).filter((i) => !isMerged.has(i));
  const groups = [merged.subarray(8), merged.subarray(0, 8)].map((sources) => ({
    sources,
    weights: Array.from(sources, (_, i) => 0.1 + 0.02 * i),
  }));
  return mergePlan(
    [
      ...kept.filter((i) => i < image.length).map(stays),
      ...groups,
      ...kept.filter((i) => i >= image.length).map(stays),
    ],
    length,
  );
}

/** The method as a reducer, and what it saw. */
function watched({ at, requires, positions, plan }: Method): { reducer: TokenReducer; seen: Seen[] } {
  const seen: Seen[] = [];
  const reducer = defineReducer({
    name: 'mine',
    at: at.map((layer) => beforeLanguageLayer(layer)),
    requires,
    positions,
    plan: async (tokens: VisualTokens, _site, stage) => {
      const { similar, question, ofQuestion } = tokens.signals as Record<string, Float32Array | undefined>;
      const rows = question && meanRow(question, ofQuestion!.length);
      const cosines = rows ? await (similar as unknown as Similarity).cosines(rows) : null;
      const there = { ...tokens, stage, cosines };
      seen.push(there);
      return plan(there);
    },
  });
  return { reducer, seen };
}

/** Both saw the same, but for rounding. */
function expectSeen(runner: readonly Seen[], reference: readonly Seen[]): void {
  expect(runner).toHaveLength(reference.length);
  for (const [i, { signals, cosines, ...layout }] of runner.entries()) {
    const { signals: expected, cosines: expectedCosines, ...expectedLayout } = reference[i];
    expect({ ...layout, imageHash: '' }).toEqual({ ...expectedLayout, imageHash: '' });
    expect(Object.keys(signals)).toEqual(Object.keys(expected));
    for (const [name, values] of [...Object.entries(signals), ['cosines', cosines] as const]) {
      const wanted = name === 'cosines' ? expectedCosines : expected[name];
      if (!(values instanceof Float32Array)) continue;
      expectNear(values, wanted!, `${name} at site ${i}`);
    }
  }
}

/** Within what float32 leaves of values of that size. */
function expectNear(values: Float32Array, wanted: Float32Array, what: string): void {
  expect(values.length, what).toBe(wanted.length);
  const size = wanted.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  const worst = values.reduce((most, value, i) => Math.max(most, Math.abs(value - wanted[i])), 0);
  expect(worst, what).toBeLessThan(1e-4 * Math.max(1, size));
}

describe.each(ALL_FORMS)('a language model whose attention is %s', (form) => {
  let model: LanguageModel;
  let lvlm: Lvlm;
  let bundle: Bundle;
  beforeAll(async () => {
    model = await languageModel(form);
    lvlm = await Lvlm.load(model.bundle, { cacheDirectory: CACHE });
    bundle = await readBundle(model.bundle, 'fp32');
  });
  afterAll(async () => {
    await lvlm.dispose();
    await model.remove();
  });

  async function reference(
    count: number,
    result: GenerateResult,
    reducer: TokenReducer,
    maxNewTokens: number,
  ): ReturnType<typeof referenceAnswer> {
    const rows = await Promise.all(
      result.images.map(async ({ crops }, i) => {
        const image = await decodeImage(picture(i + 1), 'image', 2 ** 26);
        const pixels = await preprocess(image, bundle.family.preprocessing, resize);
        return enteringRows(model.plain, pixels, crops[0].steps);
      }),
    );
    const ids = bundle.text.encode(
      bundle.text.render([{ role: 'user', text: PROMPT, images: count }]),
      count,
    );
    return referenceAnswer(model, ids, rows, reducer, maxNewTokens);
  }

  describe.each(Object.keys(METHODS))('%s', (name) => {
    const method = METHODS[name];
    test.each([1, 2])('of %i images sees, decides and answers what the reference does', async (count) => {
      const images = Array.from({ length: count }, (_, i) => picture(i + 1));
      const runner = watched(method);
      const ask = { images, prompt: PROMPT, reducers: [runner.reducer], maxNewTokens: 6 };
      const result = await lvlm.generate(ask);
      const plain = watched(method);
      const expected = await reference(count, result, plain.reducer, 6);
      expectSeen(runner.seen, plain.seen);
      expect(result.tokenIds).toEqual(expected.tokens);
      const left = method.left(VISUAL * count);
      expect(expected.plans.map(({ outputLength }) => outputLength)).toEqual(left);
      const { text, generated } = result.memory.cached;
      const seen = Array.from({ length: LAYERS }, (_, layer) => {
        const site = method.at.findLastIndex((one) => one <= layer);
        return site < 0 ? VISUAL * count : left[site];
      });
      const bytes = seen.map(
        (visual) => 2 * lvlm.info.kvHeads * lvlm.info.headDim * 4 * (text + visual + generated),
      );
      expect(result.memory.kvBytesPerLayer).toEqual(bytes);
      expect(result.images.reduce((sum, { outputTokens }) => sum + outputTokens, 0)).toBe(left.at(-1));
      expect(result.warnings).toEqual([]);
    });
  });

  test.each(Object.keys(PUBLISHED))('%s decides and answers what the reference does', async (name) => {
    const reducers = [inModel(PUBLISHED[name]())];
    const ask = { images: [picture(1)], prompt: PROMPT, reducers, maxNewTokens: 6 };
    const result = await lvlm.generate(ask);
    const expected = await reference(1, result, reducers[0], 6);
    const { steps } = result.images[0].crops[0];
    for (const [i, { plan }] of steps.entries()) {
      expect([...plan.sources]).toEqual([...expected.plans[i].sources]);
      expect([...plan.offsets]).toEqual([...expected.plans[i].offsets]);
    }
    expect(steps.at(-1)!.outputTokens).toBeLessThan(VISUAL);
    expect(result.tokenIds).toEqual(expected.tokens);
  });
});
