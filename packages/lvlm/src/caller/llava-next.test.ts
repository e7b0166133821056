/**
 * A LLaVA-NeXT, against its graphs run one by one and its pictures packed as the Python library does
 * (test/llava-next.ts).
 */
import {
  applyPlan,
  atFeatures,
  attentionGiven,
  attentionMap,
  attentionReceived,
  beforeLanguageLayer,
  defineReducer,
  identityPlan,
  keys,
  mergePlan,
  promptAttention,
  referenceBackend,
  selectionPlan,
  type ReductionPlan,
  type TokenReducer,
} from '@foveate/core';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { pooling } from '@foveate/pooling';
import { prumergePlus } from '@foveate/prumerge';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CACHE, FIXTURE, picture } from '../../test/bundles.js';
import { readLlama, forward } from '../../test/llama.js';
import {
  imagePatches,
  llavaNextBundle,
  NEWLINE,
  numberOfFeatures,
  packLines,
  PATCHES,
  PINPOINTS,
  selectBestResolution,
  SIDE,
} from '../../test/llava-next.js';
import { END, IMAGE, openPlainDecoding, type PlainDecoding, type Rows } from '../../test/plain-decoding.js';
import { readBundle, type Bundle } from '../bundle/bundle.js';
import { BundleError, Lvlm, type GenerateResult, type RawImage } from '../index.js';
import { preprocess } from '../bundle/preprocessing.js';
import { resize } from '../platform/node.js';

const PROMPT = 'What is this?';

/** One for each of the newlines. */
const models = {} as Record<'drop' | 'keep' | 'nonempty', Lvlm>;
/** Of the same graphs, where each crop is a picture of its own. */
let llava: Lvlm;
let plain: PlainDecoding;
let bundle: Bundle;
let made: Awaited<ReturnType<typeof llavaNextBundle>>;
beforeAll(async () => {
  made = await llavaNextBundle();
  for (const newlines of ['drop', 'keep', 'nonempty'] as const)
    models[newlines] = await Lvlm.load(made.bundle, { cacheDirectory: CACHE, newlines });
  llava = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE });
  plain = await openPlainDecoding(FIXTURE);
  bundle = await readBundle(FIXTURE, 'fp32');
});
afterAll(async () => {
  for (const model of [...Object.values(models), llava]) await model.dispose();
  await made.remove();
});

/** A token of a crop: which it is among the encoder's, and what the language model reads there. */
interface Place {
  readonly crop: number;
  readonly token: number;
}

/** The whole picture and its crops, each as a picture. */
async function cropsOf(image: RawImage): Promise<RawImage[]> {
  return [image, ...(await imagePatches(image))];
}

/** [crops] Rows that enter the projector. */
async function featuresOf(image: RawImage): Promise<Rows[]> {
  const features: Rows[] = [];
  for (const { data, width, height } of await cropsOf(image)) {
    const decoded = { data: Uint8Array.from(data), width, height };
    features.push(await plain.features(await preprocess(decoded, bundle.family.preprocessing, resize)));
  }
  return features;
}

/** The places of a picture's tokens. */
function placesOf({ width, height }: RawImage): { whole: readonly Place[]; lines: Place[][] } {
  const places = Array.from({ length: 37 }, (_, crop) =>
    Array.from({ length: PATCHES ** 2 }, (_value, token): Place => ({ crop, token })),
  );
  return packLines(places, [height, width], PINPOINTS, SIDE, PATCHES);
}

/** The encoder's tokens of each crop that are no padding, ascending. */
function leftOf(image: RawImage): number[][] {
  const { whole, lines } = placesOf(image);
  const [height, width] = selectBestResolution([image.height, image.width], PINPOINTS);
  const left = Array.from({ length: 1 + (height * width) / SIDE ** 2 }, (): number[] => []);
  for (const { crop, token } of [...whole, ...lines.flat()]) left[crop].push(token);
  return left; // line by line, which is ascending in each crop
}

/** What is read in a picture's place: with what stands at each place, nothing where there is nothing. */
function rowsOf(
  image: RawImage,
  rowAt: (place: Place) => Float32Array | undefined,
  newlines: 'drop' | 'keep' | 'nonempty',
): { row: Float32Array; visual: boolean }[] {
  const { whole, lines } = placesOf(image);
  const visual = (places: readonly Place[]): { row: Float32Array; visual: boolean }[] =>
    places.flatMap((place) => rowAt(place) ?? []).map((row) => ({ row, visual: true }));
  return [
    ...visual(whole),
    ...lines.flatMap((line) => {
      const rows = visual(line);
      const ends = newlines === 'keep' || (newlines === 'nonempty' && rows.length > 0);
      return ends ? [...rows, { row: NEWLINE, visual: false }] : rows;
    }),
  ];
}

/** Token ids of the prompt. */
function idsOf(prompt: string, images: number): number[] {
  return bundle.text.encode(bundle.text.render([{ role: 'user', text: prompt, images }]), images);
}

/** The rows of pictures with nothing reduced. */
async function allRows(image: RawImage): Promise<Rows> {
  const projected = (await featuresOf(image)).map((rows) => plain.project(rows));
  return rowsOf(image, ({ crop, token }) => projected[crop][token], 'keep').map(({ row }) => row);
}

/** A reducer with plans of the test's own. */
function reducer(plan: (length: number) => ReductionPlan): TokenReducer {
  return defineReducer({
    name: 'mine',
    at: [atFeatures],
    requires: {},
    plan: async ({ length }) => plan(length),
  });
}

/**
 * The rows of a picture whose crops' tokens became what a plan for each number of them says, each at its
 * anchor.
 */
async function reducedRows(
  image: RawImage,
  planOf: (crop: number, tokens: readonly number[]) => ReductionPlan,
  newlines: 'drop' | 'keep' | 'nonempty',
): Promise<Rows> {
  const features = await featuresOf(image);
  const at = new Map<string, Float32Array>();
  for (const [crop, left] of leftOf(image).entries()) {
    if (left.length === 0) continue;
    const plan = planOf(crop, left);
    const rows = left.map((token) => features[crop][token]);
    const reduced = applyPlan(plan, Float32Array.from(rows.flatMap((row) => [...row])));
    const width = rows[0].length;
    const outputs = Array.from({ length: plan.outputLength }, (_, m) =>
      reduced.slice(m * width, (m + 1) * width),
    );
    for (const [m, row] of plain.project(outputs).entries()) at.set(`${crop}:${left[plan.anchors[m]]}`, row);
  }
  return rowsOf(image, ({ crop, token }) => at.get(`${crop}:${token}`), newlines).map(({ row }) => row);
}

describe('nothing reduced', () => {
  test.each([
    [64, 64],
    [130, 62],
    [200, 80],
    [33, 257],
    [300, 301],
    [1, 500],
    [500, 1],
  ])('a picture of %i x %i', async (width, height) => {
    const image = picture(1, width, height);
    const rows = await allRows(image);
    const expected = await plain.answer(idsOf(PROMPT, 1), [rows], 10);
    for (const model of Object.values(models)) {
      const { tokenIds, memory, images } = await model.generate({
        images: [image],
        prompt: PROMPT,
        maxNewTokens: 10,
      });
      expect(tokenIds).toEqual(expected);
      const text = idsOf(PROMPT, 1).length - 1;
      expect(memory.cached.text + memory.cached.visual).toBe(
        text + numberOfFeatures([height, width], PINPOINTS, SIDE, PATCHES),
      );
      expect(images[0].crops.map(({ inputTokens }) => inputTokens)).toEqual(
        leftOf(image).map(({ length }) => length),
      );
      expect(images[0]).toMatchObject({
        inputTokens: memory.cached.visual,
        outputTokens: memory.cached.visual,
      });
    }
  });

  test('two pictures, each where its token stands', async () => {
    const images = [picture(1, 90, 30), picture(2, 100, 100)];
    const rawPrompt = 'First <image> then <image>: which?';
    const rows = [await allRows(images[0]), await allRows(images[1])];
    const { tokenIds } = await models.drop.generate({ images, rawPrompt, maxNewTokens: 10 });
    expect(tokenIds).toEqual(await plain.answer(bundle.text.encode(rawPrompt, 2), rows, 10));
  });

  test('reducers that leave all tokens as they are', async () => {
    const call = { images: [picture(3, 200, 80)], prompt: PROMPT, maxNewTokens: 10 };
    const { tokenIds } = await models.drop.generate(call);
    for (const reducers of [[fopruRank({ keepRatio: 1 })], [reducer((length) => identityPlan(length))]])
      expect((await models.drop.generate({ ...call, reducers })).tokenIds).toEqual(tokenIds);
  });
});

describe('FoPru', () => {
  /** The attention of a crop, as the same encoder gives it where the crop is a picture of its own. */
  async function attentionOf(crop: RawImage): Promise<{ given: Float32Array; received: Float32Array }> {
    let seen: { given: Float32Array; received: Float32Array } | undefined;
    const look = defineReducer({
      name: 'look',
      at: [atFeatures],
      requires: { given: attentionGiven(), received: attentionReceived() },
      plan: async ({ length, signals }) => {
        seen = signals;
        return identityPlan(length);
      },
    });
    await llava.generate({ images: [crop], prompt: PROMPT, reducers: [look], maxNewTokens: 1 });
    return seen!;
  }

  const variance = (values: readonly number[]): number => {
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    return values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  };

  /**
   * Which of a crop's tokens that are left are kept, ascending: those of the highest significance, ties to
   * the lower.
   */
  async function keptOf(crop: RawImage, left: readonly number[], ratio: number): Promise<number[]> {
    const { given, received } = await attentionOf(crop);
    const [ofGiven, ofReceived] = [given, received].map((values) => left.map((token) => values[token]));
    const scores = variance(ofGiven) > variance(ofReceived) ? ofGiven : ofReceived;
    const order = [...scores.keys()].sort((a, b) => scores[b] - scores[a] || a - b);
    return order.slice(0, Math.max(1, Math.floor(left.length * ratio + 1e-9))).sort((a, b) => a - b);
  }

  /** The same of all crops together; which of each crop's are kept, of some none. */
  async function keptTogether(image: RawImage, count: number): Promise<number[][]> {
    const left = leftOf(image);
    const tokens: { crop: number; place: number; given: number; received: number }[] = [];
    for (const [crop, pixels] of (await cropsOf(image)).entries()) {
      const { given, received } = await attentionOf(pixels);
      for (const [place, token] of left[crop].entries())
        tokens.push({ crop, place, given: given[token], received: received[token] });
    }
    const of = (name: 'given' | 'received'): number[] => tokens.map((token) => token[name]);
    const scores = variance(of('given')) > variance(of('received')) ? of('given') : of('received');
    const order = [...scores.keys()].sort((a, b) => scores[b] - scores[a] || a - b);
    const best = new Set(order.slice(0, count).map((i) => tokens[i]));
    return left.map((_, crop) => {
      const kept = tokens.filter((token) => best.has(token) && token.crop === crop);
      return kept.map(({ place }) => place);
    });
  }

  test.each([3, 40])('of the crops of a picture together: %i tokens', async (keepCount) => {
    for (const [width, height] of [
      [300, 301],
      [33, 257],
    ]) {
      const image = picture(5, width, height);
      const kept = await keptTogether(image, keepCount);
      if (keepCount === 3) expect(kept.some(({ length }) => length === 0)).toBe(true);
      const left = leftOf(image);
      const features = await featuresOf(image);
      const rows = rowsOf(
        image,
        ({ crop, token }) =>
          kept[crop].includes(left[crop].indexOf(token))
            ? plain.project([features[crop][token]])[0]
            : undefined,
        'drop',
      );
      const reducers = [fopruRank({ keepCount })];
      const call = { images: [image], prompt: PROMPT, reducers, per: 'image' as const, maxNewTokens: 8 };
      const { tokenIds, images, memory } = await models.drop.generate(call);
      const reports = images[0].crops;
      expect(reports.map(({ steps }) => steps[0]?.kept ?? [])).toEqual(kept);
      expect(reports.map(({ outputTokens }) => outputTokens)).toEqual(kept.map(({ length }) => length));
      expect(memory.cached.visual).toBe(keepCount);
      const answer = await plain.answer(idsOf(PROMPT, 1), [rows.map(({ row }) => row)], 8);
      expect(tokenIds).toEqual(answer);
      const chained = await models.drop.generate({
        ...call,
        reducers: [...reducers, fopruRank({ keepRatio: 1 })],
      });
      expect(chained.tokenIds).toEqual(answer);
    }
  });

  test('what cannot be done with the crops together', async () => {
    const ask = (one: TokenReducer): Promise<GenerateResult> =>
      models.drop.generate({ images: [picture(5, 300, 301)], prompt: PROMPT, reducers: [one], per: 'image' });
    await expect(ask(prumergePlus())).rejects.toThrow(/mixes tokens of different crops.*per: 'crop'/);
    await expect(ask(pooling())).rejects.toThrow(/grid/);
    const maps = defineReducer({
      ...{ name: 'maps', at: [atFeatures], requires: { map: attentionMap() } },
      plan: async ({ length }) => identityPlan(length),
    });
    await expect(ask(maps)).rejects.toThrow(/about one crop.*per: 'crop'/);
    const call = { images: [picture(5)], prompt: PROMPT, per: 'picture' as 'image' };
    await expect(models.drop.generate(call)).rejects.toThrow(/per must be one of crop, image/);
  });

  test.each(['drop', 'keep', 'nonempty'] as const)(
    'of each crop on its own, newlines: %s',
    async (newlines) => {
      for (const [width, height] of [
        [200, 80],
        [33, 257],
        [150, 128],
        [500, 1],
      ]) {
        const image = picture(2, width, height);
        const crops = await cropsOf(image);
        const kept: number[][] = [];
        for (const [crop, left] of leftOf(image).entries())
          kept.push(left.length === 0 ? [] : await keptOf(crops[crop], left, 0.25));
        const reducers = [fopruRank({ keepRatio: 0.25 })];
        const { tokenIds, images, memory } = await models[newlines].generate({
          images: [image],
          prompt: PROMPT,
          reducers,
          maxNewTokens: 10,
        });
        expect(images[0].crops.map(({ steps }) => steps.at(0)?.kept ?? [])).toEqual(kept);
        const rows = await reducedRows(
          image,
          (crop, left) => selectionPlan(kept[crop], left.length),
          newlines,
        );
        expect(memory.cached.text + memory.cached.visual).toBe(idsOf(PROMPT, 1).length - 1 + rows.length);
        expect(memory.cached.visual).toBe(kept.flat().length);
        expect(tokenIds).toEqual(await plain.answer(idsOf(PROMPT, 1), [rows], 10));
      }
    },
  );
});

describe('plans', () => {
  const merge = (length: number): ReductionPlan =>
    mergePlan(
      Array.from({ length: Math.floor(length / 2) }, (_, i) => ({
        sources: [2 * i, 2 * i + 1],
        weights: [0.25, 0.75],
      })),
      length,
    );

  test.each(['drop', 'keep', 'nonempty'] as const)(
    'merged tokens stand at their anchors, newlines: %s',
    async (newlines) => {
      const images = [picture(1, 200, 80), picture(4, 60, 100)];
      const { tokenIds } = await models[newlines].generate({
        images,
        prompt: PROMPT,
        reducers: [reducer(merge)],
        maxNewTokens: 10,
      });
      const rows = [];
      for (const image of images)
        rows.push(await reducedRows(image, (_, { length }) => merge(length), newlines));
      expect(tokenIds).toEqual(await plain.answer(idsOf(PROMPT, 2), rows, 10));
    },
  );

  test('the grid of each crop is what is left of it', async () => {
    const image = picture(1, 200, 80);
    const { images } = await models.drop.generate({
      images: [image],
      prompt: PROMPT,
      reducers: [pooling()],
      maxNewTokens: 1,
    });
    expect(images[0].crops.map(({ grid, outputTokens }) => [grid, outputTokens])).toEqual([
      [{ rows: 8, columns: 8 }, 16],
      [{ rows: 8, columns: 6 }, 12],
      [{ rows: 8, columns: 8 }, 16],
      [{ rows: 8, columns: 6 }, 12],
    ]);
  });

  test('keys are those of the tokens left', async () => {
    const image = picture(1, 200, 80);
    const seen: Float32Array[] = [];
    const look = defineReducer({
      name: 'look',
      at: [atFeatures],
      requires: { keys: keys() },
      plan: async ({ length, signals }) => {
        seen.push(signals.keys);
        return identityPlan(length);
      },
    });
    const call = { prompt: PROMPT, reducers: [look], maxNewTokens: 1 };
    await models.drop.generate({ ...call, images: [image] });
    const [ofCrop] = seen.slice(1);
    await llava.generate({ ...call, images: [(await cropsOf(image))[1]] });
    const all = seen.at(-1)!;
    const width = all.length / PATCHES ** 2;
    const expected = leftOf(image)[1].flatMap((token) => [
      ...all.subarray(token * width, (token + 1) * width),
    ]);
    expect([...ofCrop]).toEqual(expected);
  });
});

test('on a backend the answers are the same', async () => {
  const onBackend = await Lvlm.load(made.bundle, {
    cacheDirectory: CACHE,
    backend: referenceBackend,
    newlines: 'nonempty',
  });
  try {
    for (const reducers of [
      [fopruRank()],
      [pooling()],
      [prumergePlus({ keepRatio: 0.5 })],
      [pooling(), fopruRank({ keepRatio: 0.5 })],
    ]) {
      const call = { images: [picture(5, 200, 80)], prompt: PROMPT, reducers, maxNewTokens: 8 };
      const [here, there] = [await models.nonempty.generate(call), await onBackend.generate(call)];
      expect(there.tokenIds).toEqual(here.tokenIds);
      const kept = ({ images }: GenerateResult): unknown =>
        images[0].crops.map(({ steps }) => steps.map((step) => step.plan.anchors));
      expect(kept(there)).toEqual(kept(here));
    }
  } finally {
    await onBackend.dispose();
  }
});

test('an encoding that is used again gives the same answers', async () => {
  for (const reducers of [[], [fopruRank({ keepRatio: 0.5 })], [pooling()]]) {
    const call = { images: [picture(6, 200, 80)], prompt: PROMPT, reducers, maxNewTokens: 8 };
    const anew = await models.keep.generate(call);
    for (let i = 0; i < 2; i++) {
      const { tokenIds, images } = await models.keep.generate({ ...call, reuseEncoding: true });
      expect(tokenIds).toEqual(anew.tokenIds);
      expect(images).toEqual(anew.images);
    }
  }
});

describe('inside the language model newlines are no candidates', () => {
  /** The answer where the most attended of all visual tokens stay, and every other row. */
  async function expectedAnswer(
    images: readonly RawImage[],
    count: number,
  ): Promise<{ tokens: number[]; kept: number[] }> {
    const llama = readLlama(bundle.graphs.decoder_model_merged, {
      heads: 4,
      kvHeads: 2,
      headDim: 6,
      epsilon: 1e-6,
    });
    const rows: Float32Array[] = [];
    const places: number[] = [];
    let next = 0;
    for (const id of idsOf(PROMPT, images.length)) {
      if (id !== IMAGE) {
        rows.push(...(await plain.embed([id])));
        continue;
      }
      const image = images[next++];
      const projected = (await featuresOf(image)).map((rows) => plain.project(rows));
      for (const { row, visual } of rowsOf(image, ({ crop, token }) => projected[crop][token], 'keep')) {
        if (visual) places.push(rows.length);
        rows.push(row);
      }
    }
    const attention = forward(llama, rows).attention[0].at(-1)!;
    const order = [...places.keys()].sort((a, b) => attention[places[b]] - attention[places[a]] || a - b);
    const kept = order.slice(0, count).sort((a, b) => a - b);
    const plan = selectionPlan(kept, places.length);
    const reduction = { layer: 1, visual: places, images: places.map(() => 0), plan };
    const tokens: number[] = [];
    while (tokens.length < 4) {
      const { logits } = forward(llama, rows, [reduction]);
      const token = logits.indexOf(Math.max(...logits));
      if (token === END) break;
      tokens.push(token);
      rows.push(...(await plain.embed([token])));
    }
    return { tokens, kept };
  }

  const withoutRule = defineReducer({
    name: 'as-fastv',
    at: [beforeLanguageLayer(1)],
    requires: { attention: promptAttention({ layer: 'before', rows: 'last' }) },
    plan: async ({ length, signals: { attention } }) => {
      const order = [...attention.keys()].sort((a, b) => attention[b] - attention[a] || a - b);
      return selectionPlan(
        order.slice(0, 40).sort((a, b) => a - b),
        length,
      );
    },
  });

  test.each([
    ['in the graph', fastv({ layer: 1, rows: 'last', keepCount: 40 })],
    ['between two graphs', withoutRule],
  ])('%s', async (_, inside) => {
    const images = [picture(1, 90, 30), picture(2, 40, 70)];
    const { tokens, kept } = await expectedAnswer(images, 40);
    const result = await models.drop.generate({
      images,
      prompt: PROMPT,
      reducers: [inside],
      maxNewTokens: 4,
    });
    expect(result.tokenIds).toEqual(tokens);
    // By the place in the picture: crops' numbers among their own tokens, in the order of the language model.
    const all = images.flatMap((image, i) => {
      const { whole, lines } = placesOf(image);
      return [...whole, ...lines.flat()].map(({ crop, token }) => [
        i,
        crop,
        leftOf(image)[crop].indexOf(token),
      ]);
    });
    const expected = kept.map((token) => all[token].join()).sort();
    const reported = result.images.flatMap(({ crops }, i) =>
      crops.flatMap(({ steps }, crop) => steps[0].kept!.map((token) => [i, crop, token].join())),
    );
    expect(reported.sort()).toEqual(expected);
  });
});

test('without a newline pictures can be reduced, and not read whole', async () => {
  const without = await llavaNextBundle({ config: { image_newline: undefined } });
  const model = await Lvlm.load(without.bundle, { cacheDirectory: CACHE });
  try {
    const call = { images: [picture(1, 90, 30)], prompt: PROMPT, maxNewTokens: 6 };
    const error: unknown = await model.generate(call).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(BundleError);
    expect((error as Error).message).toMatch(/no image_newline/);
    const reducers = [fopruRank()];
    expect((await model.generate({ ...call, reducers })).tokenIds).toEqual(
      (await models.drop.generate({ ...call, reducers })).tokenIds,
    );
  } finally {
    await model.dispose();
    await without.remove();
  }
});
