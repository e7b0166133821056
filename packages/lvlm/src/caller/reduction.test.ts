/** Calls with reducers, against the graphs run one by one in test/plain-decoding.ts. */
import {
  atFeatures,
  attentionGiven,
  attentionReceived,
  attentionShare,
  classAttention,
  clipTextEmbeddings,
  createPlan,
  createTokens,
  defineReducer,
  features,
  identityPlan,
  InvalidPlanError,
  keys,
  maxPlan,
  mergePlan,
  similarityBy,
  projectedFeatures,
  selectionPlan,
  SignalUnavailableError,
  textEmbeddings,
  type ReductionPlan,
  type Requirements,
  type TokenReducer,
  type VisualTokens,
} from '@foveate/core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CACHE, FIXTURE, picture, temporaryFolder } from '../../test/bundles.js';
import { openPlainDecoding, type PlainDecoding, type Rows } from '../../test/plain-decoding.js';
import { readBundle, type Bundle } from '../bundle/bundle.js';
import { decodeImage, hashImage } from '../platform/image-files.js';
import { Lvlm, type GenerateResult, type RawImage } from '../index.js';
import { preprocess } from '../bundle/preprocessing.js';
import { resize } from '../platform/node.js';

let lvlm: Lvlm;
let plain: PlainDecoding;
let bundle: Bundle;
beforeAll(async () => {
  lvlm = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE });
  plain = await openPlainDecoding(FIXTURE);
  bundle = await readBundle(FIXTURE, 'fp32');
});
afterAll(() => lvlm.dispose());

const PROMPT = 'What is this?';
const VISUAL_TOKENS = 64;

/** A reducer with a plan of the test's own. */
function reducer<R extends Requirements>(
  plan: (tokens: VisualTokens<R>) => ReductionPlan | Promise<ReductionPlan>,
  requires: R = {} as R,
): TokenReducer {
  const definition = { name: 'mine', at: [atFeatures], requires };
  return defineReducer({ ...definition, plan: async (tokens: VisualTokens<R>) => plan(tokens) });
}

async function featuresOf(image: RawImage): Promise<Rows> {
  return plain.features(
    await preprocess(await decodeImage(image, 'image', 2 ** 26), bundle.family.preprocessing, resize),
  );
}

/** Rows combined as a plan says, in the plainest way. */
function combine(rows: Rows, plan: ReductionPlan): Rows {
  return Array.from({ length: plan.outputLength }, (_, m) => {
    const sources = [...plan.sources.slice(plan.offsets[m], plan.offsets[m + 1])];
    const weights = sources.map((_source, e) => plan.weights?.[plan.offsets[m] + e] ?? 1);
    return rows[0].map((_value, d) => {
      const terms = sources.map((source, e) => weights[e] * rows[source][d]);
      return plan.combine === 'max' ? Math.max(...terms) : terms.reduce((sum, term) => sum + term, 0);
    });
  });
}

/** Asks with `plans` one after the other for each image, and without the runner. */
async function both(
  images: readonly RawImage[],
  plans: readonly ReductionPlan[],
  maxNewTokens = 10,
): Promise<{ result: GenerateResult; expected: number[] }> {
  const result = await lvlm.generate({
    images,
    prompt: PROMPT,
    reducers: plans.map((plan) => reducer(() => plan)),
    maxNewTokens,
  });
  const features = await Promise.all(images.map(featuresOf));
  const reduced = features.map((rows) => plain.project(plans.reduce(combine, rows)));
  const ids = bundle.text.encode(
    bundle.text.render([{ role: 'user', text: PROMPT, images: images.length }]),
    images.length,
  );
  return { result, expected: await plain.answer(ids, reduced, maxNewTokens) };
}

describe('the answer is the one of the reduced tokens', () => {
  const every = (step: number): number[] => Array.from({ length: VISUAL_TOKENS / step }, (_, i) => i * step);
  const cases: Record<string, ReductionPlan[]> = {
    'nothing reduced': [identityPlan(VISUAL_TOKENS)],
    selection: [selectionPlan(every(4), VISUAL_TOKENS)],
    'one token': [selectionPlan([37], VISUAL_TOKENS)],
    'selection in another order': [selectionPlan([60, 3, 17, 4, 20], VISUAL_TOKENS)],
    merge: [
      mergePlan(
        every(4).map((i) => ({ sources: [i, i + 1, i + 3], weights: [0.5, 0.75, -0.25] })),
        VISUAL_TOKENS,
      ),
    ],
    maximum: [
      maxPlan(
        every(2).map((i) => [i, i + 1]),
        VISUAL_TOKENS,
      ),
    ],
    'selection, merge, maximum': [
      selectionPlan(every(2), VISUAL_TOKENS),
      mergePlan(
        [...new Array<number>(16).keys()].map((i) => ({ sources: [2 * i, 2 * i + 1], weights: [0.5, 0.5] })),
        32,
      ),
      maxPlan(
        [...new Array<number>(8).keys()].map((i) => [i, i + 8]),
        16,
      ),
    ],
  };
  test.each(Object.keys(cases))('%s', async (name) => {
    const { result, expected } = await both([picture(1)], cases[name]);
    expect(result.tokenIds).toEqual(expected);
    expect(result.images[0].outputTokens).toBe(cases[name].at(-1)!.outputLength);
  });

  test('several images, each on its own', async () => {
    const { result, expected } = await both([picture(1), picture(2, 90, 30)], cases.merge);
    expect(result.tokenIds).toEqual(expected);
    expect(result.images.map(({ outputTokens }) => outputTokens)).toEqual([16, 16]);
  });

  test('nothing reduced is the call without reducers', async () => {
    const images = [picture(3)];
    const all = await lvlm.generate({ images, prompt: PROMPT });
    const { tokenIds } = await lvlm.generate({
      images,
      prompt: PROMPT,
      reducers: [reducer(({ length }) => identityPlan(length))],
    });
    expect(tokenIds).toEqual(all.tokenIds);
  });
});

describe('the report', () => {
  test('names the tokens that each step kept', async () => {
    const { result } = await both(
      [picture(1)],
      [
        selectionPlan([9, 5, 40, 3], VISUAL_TOKENS),
        selectionPlan([3, 1], 4),
        mergePlan([{ sources: [0, 1], weights: [1, 1] }], 2),
      ],
    );
    expect(result.images[0]).toMatchObject({ inputTokens: 64, outputTokens: 1 });
    const [crop] = result.images[0].crops;
    expect(crop).toMatchObject({ grid: { rows: 8, columns: 8 }, inputTokens: 64, outputTokens: 1 });
    expect(crop.steps.map(({ kept }) => kept)).toEqual([[3, 5, 9, 40], [3, 5], null]);
    expect(crop.steps.map(({ inputTokens, outputTokens }) => [inputTokens, outputTokens])).toEqual([
      [64, 4],
      [4, 2],
      [2, 1],
    ]);
    expect(crop.steps[0].plan.sources).toEqual(Uint32Array.of(9, 5, 40, 3));
  });

  test('counts the KV cache exactly', async () => {
    const reducers = [reducer(({ length }) => selectionPlan([1, 2, 3], length))];
    const text =
      bundle.text.encode(bundle.text.render([{ role: 'user', text: PROMPT, images: 1 }]), 1).length - 1;
    for (const maxNewTokens of [1, 7]) {
      const { memory, tokenIds, finishReason } = await lvlm.generate({
        images: [picture(1)],
        prompt: PROMPT,
        reducers,
        maxNewTokens,
      });
      expect(finishReason).toBe('length');
      expect(tokenIds).toHaveLength(maxNewTokens);
      // The last token was never run: its keys and values do not exist.
      expect(memory.cached).toEqual({ text, visual: 3, generated: maxNewTokens - 1 });
      const layer = 2 * lvlm.info.kvHeads * lvlm.info.headDim * 4 * (text + 3 + maxNewTokens - 1);
      expect(memory.kvBytesPerLayer).toEqual([layer, layer, layer, layer]);
      expect(memory.kvBytes).toBe(4 * layer);
    }
  });

  test('hands on the warnings of plans, once', async () => {
    const warn = reducer(({ length }) => identityPlan(length, { warnings: ['Take care.'] }));
    expect(
      (await lvlm.generate({ images: [picture(1), picture(2)], prompt: PROMPT, reducers: [warn] })).warnings,
    ).toEqual(['Take care.']);
  });

  test('splits the time to the first token', async () => {
    const { timings, memory } = await lvlm.generate({
      images: [picture(1)],
      prompt: PROMPT,
      reducers: [reducer(({ length }) => identityPlan(length))],
      maxNewTokens: 3,
    });
    const { queueMs, preprocessMs, visionMs, reduceMs, prefillMs } = timings;
    const parts = queueMs + preprocessMs + visionMs + reduceMs + prefillMs;
    expect(Math.min(...(Object.values(timings) as number[]))).toBeGreaterThanOrEqual(0);
    expect(parts).toBeLessThanOrEqual(timings.ttftMs);
    expect(timings.totalMs).toBeGreaterThanOrEqual(timings.ttftMs + 2 * timings.tpotMs!);
    if (process.platform === 'linux') expect(memory.peakRssBytes).toBeGreaterThan(50e6);
  });
});

describe('what a reducer sees', () => {
  const all = {
    given: attentionGiven(),
    received: attentionReceived(),
    joined: classAttention(),
    mean: classAttention({ heads: 'mean' }),
    keys: keys(),
    meanKeys: keys({ heads: 'mean' }),
    share: attentionShare(),
  };

  test('the signals it asked for, shaped as core says', async () => {
    let seen: VisualTokens<typeof all> | undefined;
    const look = reducer((tokens) => {
      seen = tokens;
      return identityPlan(tokens.length);
    }, all);
    const image = picture(1);
    await lvlm.generate({ images: [image], prompt: PROMPT, reducers: [look] });
    expect(seen).toMatchObject({
      length: 64,
      grid: { rows: 8, columns: 8 },
      spans: [{ start: 0, length: 64 }],
      imageHash: hashImage(await decodeImage(image, 'image', 2 ** 26)),
    });
    const lengths = Object.values(seen!.signals).map(({ length }) => length);
    expect(lengths).toEqual([64, 64, 64, 64, 64 * 32, 64 * 16, 2]);
    const sum = (values: Float32Array): number => values.reduce((total, value) => total + value, 0);
    // Both are all of the attention between patches, N times.
    expect(sum(seen!.signals.given)).toBeCloseTo(sum(seen!.signals.received), 4);
  });

  test('nothing it did not ask for', async () => {
    let names: string[] = [];
    const look = reducer(
      ({ length, signals }) => {
        names = Object.keys(signals);
        return identityPlan(length);
      },
      { given: attentionGiven() },
    );
    await lvlm.generate({ images: [picture(1)], prompt: PROMPT, reducers: [look] });
    expect(names).toEqual(['given']);
  });

  test('layers that count from the end: of the two that the encoder was trained with in front, and the last', async () => {
    const values: Float32Array[] = [];
    const look = reducer(
      ({ length, signals }) => {
        values.push(signals.fromStart, signals.fromEnd);
        return identityPlan(length);
      },
      {
        fromStart: attentionReceived({ layer: 0 }),
        fromEnd: attentionReceived({ layer: -lvlm.info.visionLayers }),
      },
    );
    await lvlm.generate({ images: [picture(1)], prompt: PROMPT, reducers: [look] });
    expect(values[1]).toEqual(values[0]);
  });

  test('neighbours by the keys that stay in the engine', async () => {
    let found: { keys: Float32Array; nearest: Uint32Array } | undefined;
    const look = reducer(
      async ({ length, signals }) => {
        found = { keys: signals.keys, nearest: await signals.similar.nearest(Uint32Array.of(0, 63), 5) };
        return identityPlan(length);
      },
      { keys: keys(), similar: similarityBy(keys()) },
    );
    await lvlm.generate({ images: [picture(1)], prompt: PROMPT, reducers: [look] });
    const reference = createTokens({ length: 64, signals: [{ ...keys(), values: found!.keys }] });
    expect(found!.nearest).toEqual(await reference.nearest(keys(), Uint32Array.of(0, 63), 5));
  });

  test('features, projected features and the question, which no cache of the image serves stale', async () => {
    const seen: { features: Float32Array; projected: Float32Array; text: Float32Array }[] = [];
    const look = reducer(
      ({ length, signals }) => {
        seen.push(signals);
        return identityPlan(length);
      },
      { features: features(), projected: projectedFeatures(), text: textEmbeddings() },
    );
    const prompts = ['What is this?', 'What is that thing there?'];
    for (const prompt of prompts) {
      await lvlm.generate({ images: [picture(1)], prompt, reducers: [look], reuseEncoding: true });
    }
    const rows = await featuresOf(picture(1));
    const flat = (values: Rows): number[] => values.flatMap((row) => [...row]);
    for (const [i, prompt] of prompts.entries()) {
      const text = bundle.text
        .encode(bundle.text.render([{ role: 'user', text: prompt, images: 1 }]), 1)
        .filter((id) => id !== bundle.family.imageTokenId);
      const expected = [rows, plain.project(rows), await plain.embed(text)].map(flat);
      for (const [j, values] of Object.values(seen[i]).entries()) {
        expect(values).toHaveLength(expected[j].length);
        expect(values.every((value, at) => Math.abs(value - expected[j][at]) < 1e-5)).toBe(true);
      }
    }
  });

  test('what the reducer before it left', async () => {
    const lengths: number[] = [];
    const first = reducer(({ length }) => selectionPlan([2, 4, 6], length));
    const second = reducer(
      ({ length, signals }) => {
        lengths.push(length, signals.given.length);
        return identityPlan(length);
      },
      { given: attentionGiven() },
    );
    await lvlm.generate({ images: [picture(1)], prompt: PROMPT, reducers: [first, second] });
    expect(lengths).toEqual([3, 3]);
  });

  test('a layer that the export left out is a typed error', async () => {
    const last = reducer(({ length }) => identityPlan(length), { attention: classAttention({ layer: -1 }) });
    await expect(lvlm.generate({ images: [picture(1)], prompt: PROMPT, reducers: [last] })).rejects.toThrow(
      /classAttention@2:joined is not available.*layers 0 to 1/,
    );
    expect(
      (await lvlm.generate({ images: [picture(1)], prompt: PROMPT, maxNewTokens: 1 })).tokenIds,
    ).toHaveLength(1);
  });
});

test('a signal that no bundle computes is a typed error that says what there is, before an image is read', async () => {
  const asks = reducer(({ length }) => identityPlan(length), { question: clipTextEmbeddings() });
  for (const work of [lvlm.check([asks]), lvlm.generate({ images: [], prompt: PROMPT, reducers: [asks] })]) {
    const error = await work.catch((reason: unknown) => reason);
    expect(SignalUnavailableError.isInstance(error)).toBe(true);
    expect(String(error)).toContain('option of mine that reads features, projectedFeatures, textEmbeddings');
  }
});

describe('a reducer that fails ends its own call alone', () => {
  const image = picture(1);
  const answers = (): Promise<GenerateResult> =>
    lvlm.generate({ images: [image], prompt: PROMPT, maxNewTokens: 4 });

  test('by throwing', async () => {
    const failing = reducer(() => {
      throw new RangeError('mine');
    });
    const before = await answers();
    await expect(lvlm.generate({ images: [image], prompt: PROMPT, reducers: [failing] })).rejects.toThrow(
      new RangeError('mine'),
    );
    expect((await answers()).tokenIds).toEqual(before.tokenIds);
  });

  test('by a plan for other tokens', async () => {
    const wrong = reducer(() => selectionPlan([0], 5));
    await expect(lvlm.generate({ images: [image], prompt: PROMPT, reducers: [wrong] })).rejects.toThrow(
      InvalidPlanError,
    );
  });

  test('by a plan that points out of the tokens', async () => {
    for (const no of [null, undefined, 7, 'all', {}]) {
      const none = reducer(() => no as ReductionPlan);
      await expect(lvlm.generate({ images: [image], prompt: PROMPT, reducers: [none] })).rejects.toThrow(
        InvalidPlanError,
      );
    }
    const wild = reducer(({ length }) => ({
      ...identityPlan(length),
      sources: Uint32Array.from({ length }, () => 4_000_000_000),
    }));
    await expect(lvlm.generate({ images: [image], prompt: PROMPT, reducers: [wild] })).rejects.toThrow(
      InvalidPlanError,
    );
    expect(() => createPlan(identityPlan(3))).not.toThrow();
  });
});

test('reducers named at load are ready', async () => {
  const cacheDirectory = await temporaryFolder();
  const keep = reducer(({ length }) => selectionPlan([7], length), { given: attentionGiven() });
  const loaded = await Lvlm.load(FIXTURE, { reducers: [keep], cacheDirectory });
  const { tokenIds } = await loaded.generate({ images: [picture(1)], prompt: PROMPT, reducers: [keep] });
  await loaded.dispose();
  expect(tokenIds).toEqual(
    (await lvlm.generate({ images: [picture(1)], prompt: PROMPT, reducers: [keep] })).tokenIds,
  );
});
