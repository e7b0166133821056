/** Reducers of the language stage, against a language model in plain JS that has no cache: test/llama.ts. */
import {
  identityPlan,
  InvalidPlanError,
  maxPlan,
  mergePlan,
  selectionPlan,
  SignalUnavailableError,
  type LanguageReducer,
  type ReductionPlan,
  type SignalRequest,
  type VisionReducer,
  type VisualTokens,
} from '@foveate/core';
import { createFastv } from '@foveate/fastv';
import { createFopruRank } from '@foveate/fopru-rank';
import { createPooling } from '@foveate/pooling';
import { createPrumerge } from '@foveate/prumerge';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CACHE, FIXTURE, picture } from '../../test/bundles.js';
import {
  enteringRows,
  FORMS,
  languageModel,
  referenceAnswer,
  type LanguageModel,
} from '../../test/language-models.js';
import type { Rows } from '../../test/plain-decoding.js';
import { readBundle, type Bundle } from '../bundle/bundle.js';
import { decodeImage } from '../platform/image-files.js';
import { Lvlm, UnsupportedReducerError, type GenerateResult, type RawImage } from '../index.js';
import { preprocess } from '../bundle/preprocessing.js';

const PROMPT = 'What is this?';
const LAYERS = 4;
const VISUAL = 64;

/** The sum of KV bytes that so many tokens a layer have, by hand. */
const kvBytes = (lvlm: Lvlm, tokens: number): number =>
  2 * lvlm.info.kvHeads * lvlm.info.headDim * 4 * tokens;

/** The same choice, which the runner cannot make inside the decoder's graph: `plan` makes it between two. */
function planned({ topK, ...rest }: LanguageReducer): LanguageReducer {
  expect(topK).toBeDefined();
  return rest;
}

/** A reducer before layer 2 with a plan of the test's own. */
function reducer(
  plan: (tokens: VisualTokens) => ReductionPlan | Promise<ReductionPlan>,
  requires: readonly SignalRequest[] = [],
): LanguageReducer {
  return {
    specificationVersion: 1,
    stage: 'language',
    layer: 2,
    name: 'mine',
    requires,
    plan: async (tokens) => plan(tokens),
  };
}

describe.each(FORMS)('a language model whose attention is %s', (form) => {
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

  const idsOf = (images: number): number[] => bundle.text.encode(bundle.text.render(PROMPT, images), images);

  /** The rows of an image that enter the language model, after the plans that the runner reports. */
  async function entering(image: RawImage, result: GenerateResult, index: number): Promise<Rows> {
    const pixels = await preprocess(await decodeImage(image, 'image', 2 ** 26), bundle.preprocessing);
    return enteringRows(model.plain, pixels, result.images[index].stages);
  }

  /** Asks the runner, and the reference from the same tokens on. */
  async function both(
    images: readonly RawImage[],
    vision: readonly VisionReducer[],
    language: LanguageReducer,
    maxNewTokens = 8,
  ): Promise<{ result: GenerateResult; expected: Awaited<ReturnType<typeof referenceAnswer>> }> {
    const result = await lvlm.generate({
      images,
      prompt: PROMPT,
      reducers: [...vision, language],
      maxNewTokens,
    });
    const rows = await Promise.all(images.map((image, index) => entering(image, result, index)));
    const expected = await referenceAnswer(model, idsOf(images.length), rows, language, maxNewTokens);
    return { result, expected };
  }

  describe.each([1, 2, 3])('FastV before layer %i', (layer) => {
    test.each(['last', 'mean'] as const)(
      'by rows %s keeps and answers what the reference does',
      async (rows) => {
        const { result, expected } = await both(
          [picture(1)],
          [],
          createFastv({ layer, rows, budget: { keepRatio: 0.25 } }),
        );
        expect(result.images[0].stages.at(-1)?.kept).toEqual([...expected.plan.sources]);
        expect(result.tokens).toEqual(expected.tokens);
      },
    );

    test('keeps the whole cache below it and the short one from it on', async () => {
      const budget = { keepCount: 5 };
      const reducers = [createFastv({ layer, budget })];
      const text = idsOf(1).length - 1;
      for (const maxNewTokens of [1, 4]) {
        const { memory, equivalentTokens, tokens, images } = await lvlm.generate({
          images: [picture(1)],
          prompt: PROMPT,
          reducers,
          maxNewTokens,
        });
        expect(tokens).toHaveLength(maxNewTokens); // the last of them was never run
        const [whole, short] = [VISUAL, 5].map((visual) => kvBytes(lvlm, text + visual + maxNewTokens - 1));
        expect(memory.kvBytesPerLayer).toEqual(
          Array.from({ length: LAYERS }, (_, i) => (i < layer ? whole : short)),
        );
        expect(memory.kvBytes).toBe(layer * whole + (LAYERS - layer) * short);
        expect(equivalentTokens).toBe((VISUAL * layer + 5 * (LAYERS - layer)) / LAYERS);
        expect(images[0]).toMatchObject({ inputTokens: VISUAL, outputTokens: 5 });
        expect(images[0].stages).toMatchObject([
          { stage: 'language', reducer: 'fastv', inputTokens: VISUAL, outputTokens: 5 },
        ]);
      }
    });

    test('between two graphs is what it is in one', async () => {
      const fastv = createFastv({ layer, budget: { keepRatio: 0.25 } });
      const ask = { images: [picture(1), picture(4)], prompt: PROMPT, maxNewTokens: 8 };
      const [one, two] = [
        await lvlm.generate({ ...ask, reducers: [fastv] }),
        await lvlm.generate({ ...ask, reducers: [planned(fastv)] }),
      ];
      expect(two.tokens).toEqual(one.tokens);
      expect(two.images).toEqual(one.images);
      expect(two.memory.kvBytesPerLayer).toEqual(one.memory.kvBytesPerLayer);
      expect(two.equivalentTokens).toBe(one.equivalentTokens);
    });

    test('that keeps all is the unpatched model', async () => {
      const ask = { images: [picture(2)], prompt: PROMPT, maxNewTokens: 8 };
      const plain = await lvlm.generate(ask);
      const all = [
        createFastv({ layer, budget: { keepRatio: 1 } }),
        createFastv({ layer, budget: { keepCount: 1000 } }),
        { ...reducer(({ length }) => identityPlan(length)), layer },
      ];
      for (const one of all) {
        const kept = await lvlm.generate({ ...ask, reducers: [one] });
        expect(kept.tokens).toEqual(plain.tokens);
        expect(kept.memory.kvBytesPerLayer).toEqual(plain.memory.kvBytesPerLayer);
        expect(kept.equivalentTokens).toBe(VISUAL);
        expect(kept.images[0]).toMatchObject({ outputTokens: VISUAL, stages: [{ outputTokens: VISUAL }] });
      }
    });
  });

  const fastv = createFastv({ layer: 2, budget: { keepRatio: 0.5 } });
  const before: Record<string, VisionReducer> = {
    'one that selects': createFopruRank({ budget: { keepRatio: 0.5 } }),
    'one that merges': createPooling({ mode: 'mean' }),
    'one that takes the maximum': createPooling({ mode: 'max' }),
    'one that prunes and merges': createPrumerge({ budget: { keepCount: 12 } }),
  };
  test.each(Object.keys(before))('after %s', async (name) => {
    const { result, expected } = await both([picture(1)], [before[name]], fastv);
    expect(result.tokens).toEqual(expected.tokens);
    const [first, second] = result.images[0].stages;
    expect(second.plan.sources).toEqual(expected.plan.sources);
    expect(second.inputTokens).toBe(first.outputTokens);
    expect(second.outputTokens).toBe(Math.floor(first.outputTokens / 2));
    expect(second.kept).toEqual(first.kept && Array.from(second.plan.sources, (i) => first.kept![i]));
    const { text, visual, generated } = result.memory.cached;
    expect(visual).toBe(first.outputTokens);
    const [below, above] = [first, second].map(({ outputTokens }) =>
      kvBytes(lvlm, text + outputTokens + generated),
    );
    expect(result.memory.kvBytesPerLayer).toEqual([below, below, above, above]);
    expect(result.equivalentTokens).toBe((first.outputTokens + second.outputTokens) / 2);
  });

  const pairs = (length: number): number[][] =>
    Array.from({ length: length / 2 }, (_, i) => [i, length - 1 - i]);
  const plans: Record<string, (length: number) => ReductionPlan> = {
    'a selection, in whatever order': (length) => selectionPlan([40, 3, 17, 60, 4], length),
    'a weighted sum': (length) =>
      mergePlan(
        pairs(length).map((sources, i) => ({ sources, weights: [0.75, i % 2 ? 0.5 : -0.25] })),
        length,
      ),
    'a maximum': (length) => maxPlan(pairs(length), length),
    'outputs in one place': (length) =>
      mergePlan(
        [[5], [5, 6], [7, 5]].map((sources) => ({ sources, weights: sources.map((source) => 8 - source) })),
        length,
      ),
  };
  test.each(Object.keys(plans))('any plan is carried out between two graphs: %s', async (name) => {
    const { result, expected } = await both(
      [picture(1)],
      [],
      reducer(({ length }) => plans[name](length)),
    );
    expect(result.tokens).toEqual(expected.tokens);
    expect(result.images[0].stages[0].plan).toEqual(expected.plan);
    expect(result.images[0].stages[0].kept === null).toBe(!name.includes('selection'));
  });

  test('a reducer sees all images, and of every lower layer what it asked for', async () => {
    const requires = ([0, 1] as const).flatMap((layer) =>
      (['last', 'mean'] as const).map((rows) => ({ signal: 'promptAttention' as const, layer, rows })),
    );
    const seen: { tokens: VisualTokens; values: Float32Array[] }[] = [];
    const look = reducer(async (tokens) => {
      seen.push({ tokens, values: await Promise.all(requires.map((request) => tokens.signal(request))) });
      return identityPlan(tokens.length);
    }, requires);
    const half = createFopruRank({ budget: { keepRatio: 0.5 } });
    await both([picture(1), picture(2)], [half], look, 1);
    const [runner, reference] = seen;
    expect(runner.tokens.spans).toEqual([
      { start: 0, length: 32 },
      { start: 32, length: 32 },
    ]);
    expect(runner.tokens.spans).toEqual(reference.tokens.spans);
    expect(runner.tokens.key).toMatch(/^[0-9a-f]+ [0-9a-f]+$/);
    for (const [i, values] of runner.values.entries())
      for (const [j, value] of values.entries()) expect(value).toBeCloseTo(reference.values[i][j], 5);
  });

  test('the tokens of several images are ranked together', async () => {
    const { result, expected } = await both(
      [picture(1), picture(2, 90, 30), picture(3)],
      [],
      createFastv({ layer: 1, budget: { keepCount: 40 } }),
    );
    expect(result.tokens).toEqual(expected.tokens);
    const kept = result.images.flatMap(({ stages }, i) => stages[0].kept!.map((token) => i * VISUAL + token));
    expect(kept).toEqual([...expected.plan.sources]);
    expect(result.equivalentTokens).toBe((3 * VISUAL * 1 + 40 * 3) / 4);
  });

  test('an image may lose all its tokens', async () => {
    const { result, expected } = await both(
      [picture(1), picture(2)],
      [],
      createFastv({ layer: 1, budget: { keepCount: 1 } }),
    );
    expect(result.tokens).toEqual(expected.tokens);
    const counts = result.images.map(({ outputTokens }) => outputTokens);
    expect(counts.toSorted()).toEqual([0, 1]);
    const { stages } = result.images[counts.indexOf(0)];
    expect(stages[0]).toMatchObject({ kept: [], inputTokens: VISUAL, outputTokens: 0 });
  });
});

describe('what cannot be run', () => {
  let lvlm: Lvlm;
  beforeAll(async () => {
    lvlm = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE });
  });
  afterAll(() => lvlm.dispose());
  const ask = { images: [picture(1)], prompt: PROMPT, maxNewTokens: 2 };
  const fastv = createFastv({ layer: 2 });
  const fopru = createFopruRank();

  test('a layer that the model does not have is refused, at load too', async () => {
    for (const layer of [4, 5]) {
      const reducers = [createFastv({ layer })];
      const message = /^fastv reduces tokens before layer [45]; this language model has the layers 0 to 3/;
      await expect(lvlm.generate({ ...ask, reducers })).rejects.toThrow(message);
      await expect(lvlm.generate({ ...ask, reducers })).rejects.toThrow(UnsupportedReducerError);
      await expect(Lvlm.load(FIXTURE, { reducers })).rejects.toThrow(UnsupportedReducerError);
    }
    expect((await lvlm.generate({ ...ask, reducers: [fastv] })).tokens).toHaveLength(2);
  });

  test('a reducer behind it is refused', async () => {
    for (const reducers of [
      [fastv, fopru],
      [fastv, createFastv({ layer: 3 })],
    ]) {
      const message = /^fastv reduces tokens inside the language model.*(fopru-rank|fastv) does/;
      await expect(lvlm.generate({ ...ask, reducers })).rejects.toThrow(message);
      await expect(lvlm.generate({ ...ask, reducers })).rejects.toThrow(UnsupportedReducerError);
    }
  });

  test('a signal of no lower layer is refused', async () => {
    for (const [request, message] of [
      [
        { signal: 'attentionGiven' },
        /^mine reduces tokens before layer 2 and asks for attentionGiven@features/,
      ],
      [{ signal: 'promptAttention', layer: 2, rows: 'last' }, /promptAttention of the layers 0 to 1\.$/],
    ] as const) {
      const reducers = [reducer(({ length }) => identityPlan(length), [request])];
      await expect(lvlm.generate({ ...ask, reducers })).rejects.toThrow(message);
      await expect(Lvlm.load(FIXTURE, { reducers })).rejects.toThrow(UnsupportedReducerError);
    }
  });

  test('a reducer that fails ends its own call alone', async () => {
    const failing = reducer(() => {
      throw new RangeError('mine');
    });
    const wrong = reducer(() => selectionPlan([0], 5));
    const blind = reducer(async (tokens) => {
      await tokens.nearest(Uint32Array.of(0), 1);
      return identityPlan(tokens.length);
    });
    const before = await lvlm.generate(ask);
    await expect(lvlm.generate({ ...ask, reducers: [failing] })).rejects.toThrow(new RangeError('mine'));
    await expect(lvlm.generate({ ...ask, reducers: [wrong] })).rejects.toThrow(InvalidPlanError);
    await expect(lvlm.generate({ ...ask, reducers: [blind] })).rejects.toThrow(SignalUnavailableError);
    expect((await lvlm.generate(ask)).tokens).toEqual(before.tokens);
  });

  test('a call that waits for a reducer can be ended', async () => {
    const stuck = reducer(() => new Promise(() => undefined));
    const abortSignal = AbortSignal.timeout(300);
    const outcome = lvlm.generate({ ...ask, reducers: [stuck], abortSignal });
    await expect(outcome).rejects.toMatchObject({ name: 'TimeoutError' });
    expect((await lvlm.generate({ ...ask, reducers: [fastv] })).tokens).toHaveLength(2);
  });

  test('a late layer is warned of, more tokens than there are too', async () => {
    const warnings = async (layer: number, keepCount: number): Promise<readonly string[]> =>
      (await lvlm.generate({ ...ask, reducers: [createFastv({ layer, budget: { keepCount } })] })).warnings;
    expect(await warnings(2, 3)).toEqual([]);
    expect(await warnings(3, 3)).toEqual([
      'fastv reduces tokens before layer 3 of 4: most layers still see all of them. A smaller layer saves more.',
    ]);
    expect(await warnings(1, 65)).toEqual([
      expect.stringContaining('keepCount 65 is more than the 64 tokens'),
    ]);
  });

  test('a prompt without images has nothing to reduce', async () => {
    const text = { prompt: 'Hello', maxNewTokens: 4 };
    const reduced = await lvlm.generate({ ...text, reducers: [fastv] });
    expect(reduced.tokens).toEqual((await lvlm.generate(text)).tokens);
    expect(reduced).toMatchObject({ images: [], equivalentTokens: 0 });
  });

  test('named at load it is ready, and other calls go on', async () => {
    const loaded = await Lvlm.load(FIXTURE, { reducers: [fastv], cacheDirectory: CACHE });
    for (const reducers of [
      [fastv],
      [],
      [fopru, fastv],
      [planned(fastv)],
      [createFastv({ layer: 1 })],
      [fopru],
    ]) {
      const { tokens } = await loaded.generate({ ...ask, reducers });
      expect(tokens).toEqual((await lvlm.generate({ ...ask, reducers })).tokens);
    }
    await loaded.dispose();
  });
});
