/**
 * Attention that is calibrated by the sizes of visual tokens, against a language model in plain JS that has no
 * cache: test/llama.ts.
 */
import {
  atFeatures,
  defineReducer,
  identityPlan,
  mergePlan,
  selectionPlan,
  UnsupportedReducerError,
  type Calibration,
  type ReductionPlan,
  type TokenReducer,
} from '@foveate/core';
import { fastv } from '@foveate/fastv';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CACHE, picture } from '../../test/bundles.js';
import { familyBundle, familyCases, familyPicture } from '../../test/families.js';
import { enteringRows, FORMS, languageModel, type LanguageModel } from '../../test/language-models.js';
import { forward } from '../../test/llama.js';
import { END, IMAGE } from '../../test/plain-decoding.js';
import { readBundle } from '../bundle/bundle.js';
import { preprocess } from '../bundle/preprocessing.js';
import { Lvlm, type RawImage } from '../index.js';
import { decodeImage } from '../platform/image-files.js';
import { resize } from '../platform/node.js';

const PROMPT = 'What is this?';
const VISUAL = 64;
const calibrations: Calibration[] = [
  { distances: true, firstLayer: 'uniform' },
  { distances: false, firstLayer: 'own' },
];

function calibrated(calibration: Calibration, plan: (length: number) => ReductionPlan): TokenReducer {
  return defineReducer({
    name: 'mine',
    at: [atFeatures],
    requires: {},
    calibration,
    plan: async ({ length }) => plan(length),
  });
}

/** Token 3 alone, and groups of two to five of the others: they stand at 1, 3, 20, 40, 61. */
const groups = [[0, 1, 2], [3], [10, 20, 21, 30, 31], [40, 41], [60, 61, 62, 63]];
const anchors = [1, 3, 20, 40, 61];

function merging(length: number): ReductionPlan {
  const outputs = groups.map((sources) => ({ sources, weights: sources.map(() => 1 / sources.length) }));
  const plan = mergePlan(outputs, length);
  return { ...plan, anchors: Uint32Array.from(anchors) };
}

describe.each(FORMS)('a language model whose attention is %s', (form) => {
  let model: LanguageModel;
  let lvlm: Lvlm;
  beforeAll(async () => {
    model = await languageModel(form);
    lvlm = await Lvlm.load(model.bundle, { cacheDirectory: CACHE });
  });
  afterAll(async () => {
    await lvlm.dispose();
    await model.remove();
  });

  /** The same without a cache: every token anew, at its own place, with the bias of its size and distance. */
  async function reference(images: readonly RawImage[], calibration: Calibration): Promise<number[]> {
    const bundle = await readBundle(model.bundle, 'fp32');
    const ids = bundle.text.encode(
      bundle.text.render([{ role: 'user', text: PROMPT, images: images.length }]),
      images.length,
    );
    const plan = merging(VISUAL);
    const step = {
      site: atFeatures,
      reducer: 'mine',
      inputTokens: VISUAL,
      outputTokens: 5,
      kept: null,
      plan,
    };
    const entering = await Promise.all(
      images.map(async (image) => {
        const decoded = await decodeImage(image, 'image', 2 ** 26);
        const pixels = await preprocess(decoded, bundle.family.preprocessing, resize);
        return enteringRows(model.plain, pixels, [step]);
      }),
    );
    const rows = [...(await model.plain.prompt(ids, entering))];
    const prompt = rows.length;
    const positions: number[] = [];
    const sizes: number[] = [];
    let next = 0;
    for (const id of ids) {
      const image = id === IMAGE;
      positions.push(...(image ? anchors.map((anchor) => next + anchor) : [next]));
      sizes.push(...(image ? groups.map((group) => group.length) : [1]));
      next += image ? VISUAL : 1;
    }
    const isVisual = sizes.map((_, place) => place).filter((place) => rowsOfImages(ids).has(place));
    const { headDim } = model.llama;
    const decay = (d: number): number => {
      const frequencies = Array.from({ length: headDim / 2 }, (_, k) => 10000 ** ((-2 * k) / headDim));
      return frequencies.reduce((sum, f) => sum + Math.cos(d * f), 0) / frequencies.length;
    };
    const bias = (layer: number, query: number, key: number): number => {
      const uniform = layer === 0 && calibration.firstLayer === 'uniform' && isVisual.includes(key);
      const size = uniform ? VISUAL / 5 : (sizes[key] ?? 1);
      const distance = positions[query] - positions[key];
      const near = calibration.distances && query < prompt ? Math.log(2 - decay(distance)) : 0;
      return Math.log(size) + near;
    };
    const tokens: number[] = [];
    while (tokens.length < 6) {
      const { logits } = forward(model.llama, rows, [], { positions, bias });
      const token = logits.indexOf(Math.max(...logits));
      if (token === END) break;
      tokens.push(token);
      rows.push(...(await model.plain.embed([token])));
      positions.push(next++);
    }
    return tokens;
  }

  function rowsOfImages(ids: readonly number[]): Set<number> {
    const places = new Set<number>();
    let place = 0;
    for (const id of ids) {
      if (id === IMAGE) for (let i = 0; i < 5; i++) places.add(place + i);
      place += id === IMAGE ? 5 : 1;
    }
    return places;
  }

  test.each(calibrations)('%j answers what the reference does, of two images too', async (calibration) => {
    for (const images of [[picture(1)], [picture(2), picture(5)]]) {
      const reducers = [calibrated(calibration, merging)];
      const ask = { images, prompt: PROMPT, maxNewTokens: 6 };
      const { tokenIds } = await lvlm.generate({ ...ask, reducers });
      expect(tokenIds).toEqual(await reference(images, calibration));
    }
  });

  test('is the unpatched model where nothing is reduced', async () => {
    const reducers = [calibrated(calibrations[0], (length) => identityPlan(length))];
    const ask = { images: [picture(1)], prompt: PROMPT, maxNewTokens: 6 };
    const plain = await lvlm.generate(ask);
    expect((await lvlm.generate({ ...ask, reducers })).tokenIds).toEqual(plain.tokenIds);
  });

  test('a chat reads each of its prompts anew, and answers as a call of its own', async () => {
    const reducers = [calibrated(calibrations[0], merging)];
    const chat = lvlm.chat({ images: [picture(1)], reducers });
    const first = await chat.ask(PROMPT, { maxNewTokens: 4 });
    const second = await chat.ask('And this?', { maxNewTokens: 4 });
    expect(second.reusedTokens).toBe(0);
    const messages = [
      { role: 'user', content: PROMPT, images: [picture(1)] },
      { role: 'assistant', content: first.text },
      { role: 'user', content: 'And this?' },
    ] as const;
    const alone = await lvlm.generate({ messages, reducers, maxNewTokens: 4 });
    expect(second.tokenIds).toEqual(alone.tokenIds);
    chat.dispose();
  });

  test('is refused where tokens are reduced inside the language model too', async () => {
    const reducers = [calibrated(calibrations[0], merging), fastv({ layer: 2 })];
    const call = lvlm.generate({ images: [picture(1)], prompt: PROMPT, reducers });
    await expect(call).rejects.toThrow(UnsupportedReducerError);
    await expect(call).rejects.toThrow('mine calibrates the attention of the whole language model');
  });
});

test('is refused where the language model reads rows of the family’s own', async () => {
  const lvlm = await Lvlm.load(familyBundle('llava_next'), { cacheDirectory: CACHE });
  const [{ pictures, text }] = familyCases('llava_next');
  const reducers = [calibrated(calibrations[0], (length) => selectionPlan([0, 1], length))];
  const call = lvlm.generate({ images: pictures.map(familyPicture), prompt: text, reducers });
  await expect(call).rejects.toThrow(UnsupportedReducerError);
  await lvlm.dispose();
});
