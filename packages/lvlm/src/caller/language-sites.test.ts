/**
 * Reducers inside the language model, against a language model in plain JS that has no cache: test/llama.ts.
 */
import {
  attentionGiven,
  beforeLanguageLayer,
  beforeVisionLayer,
  defineReducer,
  hiddenStates,
  identityPlan,
  keyMagnitude,
  InvalidPlanError,
  maxPlan,
  mergePlan,
  promptAttention,
  resolveBudget,
  selectionPlan,
  topIndicesAscending,
  topK,
  UnsupportedReducerError,
  type ReductionPlan,
  type Requirements,
  type Site,
  type TokenReducer,
  type VisualTokens,
} from '@foveate/core';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { pooling } from '@foveate/pooling';
import { prumerge } from '@foveate/prumerge';
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
import { Lvlm, type GenerateResult, type RawImage } from '../index.js';
import { preprocess } from '../bundle/preprocessing.js';
import { resize } from '../platform/node.js';

const PROMPT = 'What is this?';
const LAYERS = 4;
const VISUAL = 64;

/** The sum of KV bytes that so many tokens a layer have, by hand. */
const kvBytes = (lvlm: Lvlm, tokens: number): number =>
  2 * lvlm.info.kvHeads * lvlm.info.headDim * 4 * tokens;

/** The same choice, which the runner cannot make inside the decoder's graph: `plan` makes it between two. */
function planned({ rule, ...rest }: TokenReducer): TokenReducer {
  expect(rule).toBeDefined();
  return rest;
}

/** A reducer before a layer, with a plan of the test's own. */
function reducer<R extends Requirements>(
  plan: (tokens: VisualTokens<R>) => ReductionPlan | Promise<ReductionPlan>,
  requires: R = {} as R,
  layer = 2,
  site: Site = beforeLanguageLayer(layer),
): TokenReducer {
  const definition = { name: 'mine', at: [site], requires };
  return defineReducer({ ...definition, plan: async (tokens: VisualTokens<R>) => plan(tokens) });
}

/** FastV's rule before layers 1 and 3, each time half of what is left. */
function twice(requires: Requirements): TokenReducer {
  const budget = { keepRatio: 0.5 };
  return defineReducer({
    name: 'twice',
    at: [beforeLanguageLayer(1), beforeLanguageLayer(3)],
    requires: { attention: promptAttention({ layer: 'before' }), ...requires },
    rule: topK('attention', budget),
    plan: async ({ length, signals }) => {
      const { count } = resolveBudget(budget, length);
      return selectionPlan(topIndicesAscending(signals.attention, count), length);
    },
  });
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

  const idsOf = (images: number): number[] =>
    bundle.text.encode(bundle.text.render([{ role: 'user', text: PROMPT, images }]), images);

  /** The rows of an image that enter the language model, after the plans that the runner reports. */
  async function entering(image: RawImage, result: GenerateResult, index: number): Promise<Rows> {
    const pixels = await preprocess(
      await decodeImage(image, 'image', 2 ** 26),
      bundle.family.preprocessing,
      resize,
    );
    return enteringRows(model.plain, pixels, result.images[index].crops[0].steps);
  }

  /** Asks the runner, and the reference from the same tokens on. */
  async function both(
    images: readonly RawImage[],
    before: readonly TokenReducer[],
    language: TokenReducer,
    maxNewTokens = 8,
  ): Promise<{ result: GenerateResult; expected: Awaited<ReturnType<typeof referenceAnswer>> }> {
    const result = await lvlm.generate({
      images,
      prompt: PROMPT,
      reducers: [...before, language],
      maxNewTokens,
    });
    const rows = await Promise.all(images.map((image, index) => entering(image, result, index)));
    const expected = await referenceAnswer(model, idsOf(images.length), rows, language, maxNewTokens);
    return { result, expected };
  }

  describe('FastV before layers 1 and 3', () => {
    test.each([1, 2])('keeps and answers what the reference does, of %i images', async (count) => {
      const images = Array.from({ length: count }, (_, i) => picture(i + 1));
      const { result, expected } = await both(images, [], twice({}));
      expect(result.tokenIds).toEqual(expected.tokens);
      expect(expected.plans.map(({ outputLength }) => outputLength)).toEqual([32 * count, 16 * count]);
      const [first, second] = expected.plans;
      const kept = Array.from(second.sources, (token) => first.sources[token]);
      const reported = result.images.flatMap(({ crops }, i) =>
        crops[0].steps[1].kept!.map((token) => i * VISUAL + token),
      );
      expect(reported).toEqual(kept);
    });

    test('in one graph or in three, with FoPru before: the same tokens, reports and caches', async () => {
      const ask = { images: [picture(1), picture(4)], prompt: PROMPT, maxNewTokens: 8 };
      const before = fopruRank({ keepRatio: 0.5 });
      const [one, three] = [
        await lvlm.generate({ ...ask, reducers: [before, twice({})] }),
        await lvlm.generate({ ...ask, reducers: [before, planned(twice({}))] }),
      ];
      expect(three.tokenIds).toEqual(one.tokenIds);
      expect(three.images).toEqual(one.images);
      expect(three.memory.kvBytesPerLayer).toEqual(one.memory.kvBytesPerLayer);
      expect(three.equivalentTokens).toBe(one.equivalentTokens);
      expect(one.equivalentTokens).toBe((64 * 1 + 32 * 2 + 16 * 1) / LAYERS);
      const text = idsOf(2).length - 2;
      const run = one.tokenIds.length - (one.finishReason === 'length' ? 1 : 0);
      expect(one.memory.kvBytesPerLayer).toEqual(
        [64, 32, 32, 16].map((visual) => kvBytes(lvlm, text + visual + run)),
      );
      expect(one.images[0].crops[0].steps.map(({ site, reducer: name }) => [name, site.layer])).toEqual([
        ['fopru-rank', 'features'],
        ['twice', 1],
        ['twice', 3],
      ]);
    });

    test('two reducers, one with a rule and one without, act in the order of the data', async () => {
      const fast = fastv({ layer: 1, keepRatio: 0.5 });
      const late = reducer(({ length }) => selectionPlan([0, length - 1], length), {}, 3);
      const result = await lvlm.generate({ images: [picture(1)], prompt: PROMPT, reducers: [fast, late] });
      const alone = await lvlm.generate({ images: [picture(1)], prompt: PROMPT, reducers: [fast] });
      const kept = alone.images[0].crops[0].steps[0].kept!;
      expect(result.images[0].crops[0].steps.map((step) => step.kept)).toEqual([
        kept,
        [kept[0], kept.at(-1)],
      ]);
    });
  });

  describe.each([1, 2, 3])('FastV before layer %i', (layer) => {
    test.each(['last', 'mean'] as const)(
      'by rows %s keeps and answers what the reference does',
      async (rows) => {
        const { result, expected } = await both([picture(1)], [], fastv({ layer, rows, keepRatio: 0.25 }));
        expect(result.images[0].crops[0].steps.at(-1)?.kept).toEqual([...expected.plans[0].sources]);
        expect(result.tokenIds).toEqual(expected.tokens);
      },
    );

    test('keeps the whole cache below it and the short one from it on', async () => {
      const reducers = [fastv({ layer, keepCount: 5 })];
      const text = idsOf(1).length - 1;
      for (const maxNewTokens of [1, 4]) {
        const { memory, equivalentTokens, tokenIds, images } = await lvlm.generate({
          images: [picture(1)],
          prompt: PROMPT,
          reducers,
          maxNewTokens,
        });
        expect(tokenIds).toHaveLength(maxNewTokens); // the last of them was never run
        const [whole, short] = [VISUAL, 5].map((visual) => kvBytes(lvlm, text + visual + maxNewTokens - 1));
        expect(memory.kvBytesPerLayer).toEqual(
          Array.from({ length: LAYERS }, (_, i) => (i < layer ? whole : short)),
        );
        expect(memory.kvBytes).toBe(layer * whole + (LAYERS - layer) * short);
        expect(equivalentTokens).toBe((VISUAL * layer + 5 * (LAYERS - layer)) / LAYERS);
        expect(images[0]).toMatchObject({ inputTokens: VISUAL, outputTokens: 5 });
        expect(images[0].crops[0].steps).toMatchObject([
          { site: { tower: 'language', layer }, reducer: 'fastv', inputTokens: VISUAL, outputTokens: 5 },
        ]);
      }
    });

    test('between two graphs is what it is in one', async () => {
      const fast = fastv({ layer, keepRatio: 0.25 });
      const ask = { images: [picture(1), picture(4)], prompt: PROMPT, maxNewTokens: 8 };
      const [one, two] = [
        await lvlm.generate({ ...ask, reducers: [fast] }),
        await lvlm.generate({ ...ask, reducers: [planned(fast)] }),
      ];
      expect(two.tokenIds).toEqual(one.tokenIds);
      expect(two.images).toEqual(one.images);
      expect(two.memory.kvBytesPerLayer).toEqual(one.memory.kvBytesPerLayer);
      expect(two.equivalentTokens).toBe(one.equivalentTokens);
    });

    test('that keeps all is the unpatched model', async () => {
      const ask = { images: [picture(2)], prompt: PROMPT, maxNewTokens: 8 };
      const plain = await lvlm.generate(ask);
      const all = [
        fastv({ layer, keepRatio: 1 }),
        fastv({ layer, keepCount: 1000 }),
        reducer(({ length }) => identityPlan(length), {}, layer),
      ];
      for (const one of all) {
        const kept = await lvlm.generate({ ...ask, reducers: [one] });
        expect(kept.tokenIds).toEqual(plain.tokenIds);
        expect(kept.memory.kvBytesPerLayer).toEqual(plain.memory.kvBytesPerLayer);
        expect(kept.equivalentTokens).toBe(VISUAL);
        expect(kept.images[0]).toMatchObject({
          outputTokens: VISUAL,
          crops: [{ steps: [{ outputTokens: VISUAL }] }],
        });
      }
    });
  });

  const half = fastv({ layer: 2, keepRatio: 0.5 });
  const before: Record<string, TokenReducer> = {
    'one that selects': fopruRank({ keepRatio: 0.5 }),
    'one that merges': pooling({ mode: 'mean' }),
    'one that takes the maximum': pooling({ mode: 'max' }),
    'one that prunes and merges': prumerge({ keepCount: 12 }),
  };
  test.each(Object.keys(before))('after %s', async (name) => {
    const { result, expected } = await both([picture(1)], [before[name]], half);
    expect(result.tokenIds).toEqual(expected.tokens);
    const [first, second] = result.images[0].crops[0].steps;
    expect(second.plan.sources).toEqual(expected.plans[0].sources);
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
    expect(result.tokenIds).toEqual(expected.tokens);
    expect(result.images[0].crops[0].steps[0].plan).toEqual(expected.plans[0]);
    expect(result.images[0].crops[0].steps[0].kept === null).toBe(!name.includes('selection'));
  });

  test('a reducer sees all images, and of every lower layer what it asked for', async () => {
    const requires = {
      first: promptAttention({ layer: 0 }),
      firstMean: promptAttention({ layer: 0, rows: 'mean' }),
      second: promptAttention({ layer: -3 }),
      secondMean: promptAttention({ rows: 'mean' }), // the layer before the site
    };
    const seen: VisualTokens<typeof requires>[] = [];
    const look = reducer((tokens) => {
      seen.push(tokens);
      return identityPlan(tokens.length);
    }, requires);
    await both([picture(1), picture(2)], [fopruRank({ keepRatio: 0.5 })], look, 1);
    const [runner, reference] = seen;
    expect(runner.spans).toEqual([
      { start: 0, length: 32 },
      { start: 32, length: 32 },
    ]);
    expect(runner.spans).toEqual(reference.spans);
    expect(runner.imageHash).toMatch(/^[0-9a-f]+ [0-9a-f]+$/);
    for (const [name, values] of Object.entries(runner.signals))
      for (const [j, value] of values.entries())
        expect(value).toBeCloseTo(reference.signals[name as keyof typeof requires][j], 5);
  });

  test('the tokens of several images are ranked together', async () => {
    const { result, expected } = await both(
      [picture(1), picture(2, 90, 30), picture(3)],
      [],
      fastv({ layer: 1, keepCount: 40 }),
    );
    expect(result.tokenIds).toEqual(expected.tokens);
    const kept = result.images.flatMap(({ crops }, i) =>
      crops[0].steps[0].kept!.map((token) => i * VISUAL + token),
    );
    expect(kept).toEqual([...expected.plans[0].sources]);
    expect(result.equivalentTokens).toBe((3 * VISUAL * 1 + 40 * 3) / 4);
  });

  test('an image may lose all its tokens', async () => {
    const { result, expected } = await both([picture(1), picture(2)], [], fastv({ layer: 1, keepCount: 1 }));
    expect(result.tokenIds).toEqual(expected.tokens);
    const counts = result.images.map(({ outputTokens }) => outputTokens);
    expect(counts.toSorted()).toEqual([0, 1]);
    const { crops } = result.images[counts.indexOf(0)];
    expect(crops[0].steps[0]).toMatchObject({ kept: [], inputTokens: VISUAL, outputTokens: 0 });
  });
});

describe('what cannot be run', () => {
  let lvlm: Lvlm;
  beforeAll(async () => {
    lvlm = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE });
  });
  afterAll(() => lvlm.dispose());
  const ask = { images: [picture(1)], prompt: PROMPT, maxNewTokens: 2 };
  const fast = fastv({ layer: 2 });
  const fopru = fopruRank();

  test('a layer that the model does not have is refused, at load too', async () => {
    for (const layer of [4, 5]) {
      const reducers = [fastv({ layer })];
      const message = /^fastv reduces tokens before layer [45]; this language model has the layers 0 to 3/;
      await expect(lvlm.generate({ ...ask, reducers })).rejects.toThrow(message);
      await expect(lvlm.generate({ ...ask, reducers })).rejects.toThrow(UnsupportedReducerError);
      await expect(Lvlm.load(FIXTURE, { reducers })).rejects.toThrow(UnsupportedReducerError);
    }
    expect((await lvlm.generate({ ...ask, reducers: [fast] })).tokenIds).toHaveLength(2);
  });

  test('a reducer behind it is refused', async () => {
    for (const reducers of [
      [fast, fopru],
      [fastv({ layer: 3 }), fast],
    ]) {
      const message = /^(fopru-rank|fastv) acts before fastv on the way.*: put (fopru-rank|fastv) first\.$/;
      await expect(lvlm.generate({ ...ask, reducers })).rejects.toThrow(message);
      await expect(lvlm.generate({ ...ask, reducers })).rejects.toThrow(UnsupportedReducerError);
    }
  });

  test.each([
    [
      'a layer behind the one that makes the features',
      reducer(({ length }) => identityPlan(length), {}, 2, beforeVisionLayer(2)),
      /before layer 2 of this vision encoder: its features come out of layer 1\. Choose a layer from 1 to 1/,
    ],
    [
      'attention of the time before an earlier site',
      twice({ late: promptAttention({ layer: 0 }) }),
      /promptAttention@0:last.*Before layer 3 .* layers 1 to 2, and of the text/,
    ],
  ])('%s is refused, not passed over', async (_, wrong, message) => {
    const reducers = [wrong];
    await expect(lvlm.generate({ images: [picture(1)], prompt: PROMPT, reducers })).rejects.toThrow(message);
    await expect(Lvlm.load(FIXTURE, { reducers })).rejects.toThrow(UnsupportedReducerError);
  });

  test('a signal of no lower layer is refused', async () => {
    for (const [requires, message] of [
      [
        { given: attentionGiven() },
        /^mine asks for attentionGiven@features\. Before layer 2 of the language model/,
      ],
      [{ late: promptAttention({ layer: 3 }) }, /layers 0 to 1, and of the text of the prompt\.$/],
      [{ late: keyMagnitude({ layer: 'next' }) }, /^mine asks for keyMagnitude@2\. Before layer 2/],
      [{ late: hiddenStates({ layer: 2 }) }, /^mine asks for hiddenStates@2:none\. Before layer 2/],
    ] as const) {
      const reducers = [reducer(({ length }) => identityPlan(length), requires)];
      await expect(lvlm.generate({ ...ask, reducers })).rejects.toThrow(message);
      await expect(Lvlm.load(FIXTURE, { reducers })).rejects.toThrow(UnsupportedReducerError);
    }
  });

  test('a reducer that fails ends its own call alone', async () => {
    const failing = reducer(() => {
      throw new RangeError('mine');
    });
    const wrong = reducer(() => selectionPlan([0], 5));
    const before = await lvlm.generate(ask);
    await expect(lvlm.generate({ ...ask, reducers: [failing] })).rejects.toThrow(new RangeError('mine'));
    await expect(lvlm.generate({ ...ask, reducers: [wrong] })).rejects.toThrow(InvalidPlanError);
    expect((await lvlm.generate(ask)).tokenIds).toEqual(before.tokenIds);
  });

  test('a call that waits for a reducer can be ended', async () => {
    const stuck = reducer(() => new Promise(() => undefined));
    const abortSignal = AbortSignal.timeout(300);
    const outcome = lvlm.generate({ ...ask, reducers: [stuck], abortSignal });
    await expect(outcome).rejects.toMatchObject({ name: 'TimeoutError' });
    expect((await lvlm.generate({ ...ask, reducers: [fast] })).tokenIds).toHaveLength(2);
  });

  test('a late layer is warned of, more tokens than there are too', async () => {
    const warnings = async (layer: number, keepCount: number): Promise<readonly string[]> =>
      (await lvlm.generate({ ...ask, reducers: [fastv({ layer, keepCount })] })).warnings;
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
    const reduced = await lvlm.generate({ ...text, reducers: [fast] });
    expect(reduced.tokenIds).toEqual((await lvlm.generate(text)).tokenIds);
    expect(reduced).toMatchObject({ images: [], equivalentTokens: 0 });
  });

  test('named at load it is ready, and other calls go on', async () => {
    const loaded = await Lvlm.load(FIXTURE, { reducers: [fast], cacheDirectory: CACHE });
    for (const reducers of [[fast], [], [fopru, fast], [planned(fast)], [fastv({ layer: 1 })], [fopru]]) {
      const { tokenIds } = await loaded.generate({ ...ask, reducers });
      expect(tokenIds).toEqual((await lvlm.generate({ ...ask, reducers })).tokenIds);
    }
    await loaded.dispose();
  });
});
