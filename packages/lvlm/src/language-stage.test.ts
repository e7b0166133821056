/** Reducers of the language stage, against a language model in plain JS that has no cache: test/llama.ts. */
import { applyPlan, type LanguageReducer, type VisionReducer } from '@foveate/core';
import { createFastv } from '@foveate/fastv';
import { createFopruRank } from '@foveate/fopru-rank';
import { createPooling } from '@foveate/pooling';
import { createPrumerge } from '@foveate/prumerge';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CACHE, FIXTURE, picture } from '../test/bundles.js';
import { FORMS, languageModel, referenceAnswer, type LanguageModel } from '../test/language-models.js';
import type { Rows } from '../test/plain-decoding.js';
import { readBundle, type Bundle } from './bundle.js';
import { decodeImage } from './image-files.js';
import { Lvlm, UnsupportedReducerError, type GenerateResult, type RawImage } from './index.js';
import { preprocess } from './preprocessing.js';

const PROMPT = 'What is this?';
const LAYERS = 4;
const VISUAL = 64;

/** The sum of KV bytes that so many tokens a layer have, by hand. */
const kvBytes = (lvlm: Lvlm, tokens: number): number =>
  2 * lvlm.info.kvHeads * lvlm.info.headDim * 4 * tokens;

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
    const { data } = await preprocess(await decodeImage(image, 'image', 2 ** 26), bundle.preprocessing);
    let rows = await model.plain.features(data);
    for (const { stage, plan } of result.images[index].stages) {
      if (stage === 'language') continue;
      const width = rows[0].length;
      const reduced = applyPlan(plan, Float32Array.from(rows.flatMap((row) => [...row])));
      rows = Array.from({ length: plan.outputLength }, (_, m) => reduced.slice(m * width, (m + 1) * width));
    }
    return model.plain.project(rows);
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

    test('that keeps all is the unpatched model', async () => {
      const ask = { images: [picture(2)], prompt: PROMPT, maxNewTokens: 8 };
      const plain = await lvlm.generate(ask);
      for (const budget of [{ keepRatio: 1 }, { keepCount: 1000 }]) {
        const all = await lvlm.generate({ ...ask, reducers: [createFastv({ layer, budget })] });
        expect(all.tokens).toEqual(plain.tokens);
        expect(all.memory.kvBytesPerLayer).toEqual(plain.memory.kvBytesPerLayer);
        expect(all.equivalentTokens).toBe(VISUAL);
        expect(all.images[0]).toMatchObject({ outputTokens: VISUAL, stages: [{ outputTokens: VISUAL }] });
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
    for (const reducers of [[fastv], [], [fopru, fastv], [createFastv({ layer: 1 })], [fopru]]) {
      const { tokens } = await loaded.generate({ ...ask, reducers });
      expect(tokens).toEqual((await lvlm.generate({ ...ask, reducers })).tokens);
    }
    await loaded.dispose();
  });
});
