/** Tokens merged inside every layer of the vision encoder: in its graph, and between its parts. */
import {
  atFeatures,
  attentionMap,
  attentionReceived,
  classAttention,
  defineReducer,
  GridRequiredError,
  identityPlan,
  insideVisionLayers,
  keys,
  referenceBackend,
  UnsupportedReducerError,
  type Requirements,
  type TokenReducer,
  type VisualTokens,
} from '@foveate/core';
import { earlyDrop } from '@foveate/early-drop';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { fopruRow } from '@foveate/fopru-row';
import { readModel } from '@foveate/onnx-graph/files';
import { tome } from '@foveate/tome';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { CACHE, FIXTURE, picture } from '../../test/bundles.js';
import { familyBundle } from '../../test/families.js';
import { llavaNextBundle } from '../../test/llava-next.js';
import { openPatchedEncoder, type EncoderSettings } from '../engine/encoder.js';
import { sizesBehind } from '../engine/merged-plan.js';
import { createSessions } from '../engine/sessions.js';
import { pictureFeeds } from '../families/llava.js';
import { Lvlm } from '../index.js';
import { nodePlatform } from '../platform/node.js';
import { openGate } from '../platform/run-gate.js';

const PROMPT = 'What is this?';
/** Patches of the fixture: 8 x 8. */
const PATCHES = 64;

/** The same choice, which the runner cannot make inside the graph: `plan` makes it in each layer. */
function planned({ rule, ...rest }: TokenReducer): TokenReducer {
  expect(rule).toBeDefined();
  return rest;
}

/** Keeps what there is, after a look at it. */
function looking(requires: Requirements, look: (tokens: VisualTokens) => void): TokenReducer {
  return defineReducer({
    name: 'looking',
    at: [atFeatures],
    requires,
    plan: async (tokens) => {
      look(tokens);
      return identityPlan(tokens.length);
    },
  });
}

describe('a language model that answers', () => {
  let lvlm: Lvlm;
  beforeAll(async () => {
    lvlm = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE });
  });
  afterAll(async () => {
    await lvlm.dispose();
  });
  const ask = { images: [picture(1), picture(3)], prompt: PROMPT, maxNewTokens: 6 };

  test.each([
    ['alone', {}, []],
    ['by the official schedule', { r: 20, inflect: -1 }, []],
    [
      'with FoPru and FastV behind it',
      { keepCount: 20 },
      [fopruRank({ keepRatio: 0.5 }), fastv({ layer: 1, keepRatio: 0.5 })],
    ],
  ])('in the graph or between its parts, %s: the same tokens and reports', async (_, options, behind) => {
    const one = await lvlm.generate({ ...ask, reducers: [tome(options), ...behind] });
    const two = await lvlm.generate({ ...ask, reducers: [planned(tome(options)), ...behind] });
    expect(two.tokenIds).toEqual(one.tokenIds);
    expect(two.images).toEqual(one.images);
    expect(two.memory.kvBytes).toBe(one.memory.kvBytes);
    expect(two.warnings).toEqual(one.warnings);
  });

  test('one plan says which patches each token is the mean of', async () => {
    const { images } = await lvlm.generate({ ...ask, reducers: [tome({ keepCount: 20 })] });
    for (const { crops, inputTokens, outputTokens } of images) {
      expect([inputTokens, outputTokens]).toEqual([PATCHES, 20]);
      const [{ site, reducer, kept, plan }] = crops[0].steps;
      expect({ site, reducer, kept }).toEqual({ site: insideVisionLayers, reducer: 'tome', kept: null });
      expect([...plan.sources].sort((a, b) => a - b)).toEqual(Array.from({ length: PATCHES }, (__, i) => i));
      for (let m = 0; m < plan.outputLength; m++) {
        const weights = plan.weights!.subarray(plan.offsets[m], plan.offsets[m + 1]);
        for (const weight of weights) expect(weight).toBe(Math.fround(1 / weights.length));
      }
    }
  });

  test('methods behind it see how many patches each token stands for, and signals that followed them', async () => {
    const seen = async (merging: TokenReducer): Promise<VisualTokens[]> => {
      const all: VisualTokens[] = [];
      const look = looking(
        { received: attentionReceived(), class: classAttention({ heads: 'mean' }) },
        (one) => all.push(one),
      );
      await lvlm.generate({ ...ask, reducers: [merging, look] });
      return all;
    };
    const [whole] = await seen(tome({ keepRatio: 1 }));
    expect(whole.sizes).toBeUndefined();
    const [inGraph] = await seen(tome({ keepCount: 20 }));
    const [between] = await seen(planned(tome({ keepCount: 20 })));
    const { sizes, length, grid, signals } = inGraph;
    expect(length).toBe(20);
    expect(grid).toBeUndefined();
    expect(sizes!.reduce((a, b) => a + b)).toBe(PATCHES);
    expect(Math.max(...sizes!)).toBeGreaterThan(1);
    expect(between.sizes).toEqual(sizes);
    for (const [name, values] of Object.entries(signals as Record<string, Float32Array>)) {
      const others = (between.signals as Record<string, Float32Array>)[name];
      expect(values).toHaveLength(20);
      for (const [i, value] of values.entries()) expect(others[i]).toBeCloseTo(value, 6);
    }
  });

  test('keeping every patch changes nothing, and the grid stays', async () => {
    const none = await lvlm.generate({ ...ask, reducers: [fopruRow({ keepRatio: 0.5 })] });
    for (const all of [tome({ keepRatio: 1 }), planned(tome({ keepRatio: 1 }))]) {
      const { tokenIds, images } = await lvlm.generate({
        ...ask,
        reducers: [all, fopruRow({ keepRatio: 0.5 })],
      });
      expect(tokenIds).toEqual(none.tokenIds);
      expect(images[0].crops[0].steps[1].kept).toEqual(none.images[0].crops[0].steps[0].kept);
    }
    const reducers = [tome({ keepRatio: 0.5 }), fopruRow({ keepRatio: 0.5 })];
    await expect(lvlm.generate({ ...ask, reducers })).rejects.toThrow(GridRequiredError);
  });

  test('another budget is never served from the encoding before', async () => {
    const reuse = { ...ask, reuseEncoding: true };
    for (const count of [20, 17, 20]) {
      for (const reducer of [tome({ keepCount: count }), planned(tome({ keepCount: count }))]) {
        const fresh = await lvlm.generate({ ...ask, reducers: [reducer] });
        const again = await lvlm.generate({ ...reuse, reducers: [reducer] });
        expect(again.tokenIds).toEqual(fresh.tokenIds);
        expect(again.images[0].outputTokens).toBe(count);
      }
    }
  });

  test('a budget that the layers cannot reach comes as near as it can, and says so', async () => {
    for (const reducer of [tome({ keepCount: 3 }), planned(tome({ keepCount: 3 }))]) {
      const { images, warnings } = await lvlm.generate({ ...ask, reducers: [reducer] });
      expect(images[0].outputTokens).toBe(16);
      expect(warnings).toEqual([expect.stringMatching(/2 layers .* leave 16, not 3/)]);
    }
  });

  test.each([
    ['what acts before a layer', [earlyDrop({ layer: 1 }), tome()], /early-drop before layer 1.*one of them/],
    [
      'signals of earlier layers',
      [tome(), looking({ rows: keys({ layer: 0 }) }, () => undefined)],
      /'features'/,
    ],
    [
      'signals of one layer inside every one',
      [{ ...planned(tome()), requires: { rows: keys({ layer: 0 }) } }],
      /keys@0:joined.*'before'/,
    ],
    ['what comes later', [fopruRank(), tome()], /put tome first/],
  ])('refuses %s', async (_, reducers, message) => {
    const answer = lvlm.generate({ ...ask, reducers });
    await expect(answer).rejects.toThrow(UnsupportedReducerError);
    await expect(answer).rejects.toThrow(message);
  });

  test('maps of the last layer do not follow', async () => {
    const look = looking({ map: attentionMap() }, () => undefined);
    await expect(lvlm.generate({ ...ask, reducers: [tome({ keepCount: 20 }), look] })).rejects.toThrow(
      /attentionMap@features.*cannot follow/,
    );
  });
});

test('a backend reduces what is left like the rest', async () => {
  await using plain = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE });
  await using backed = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE, backend: referenceBackend });
  const ask = {
    images: [picture(2)],
    prompt: PROMPT,
    maxNewTokens: 4,
    reducers: [tome({ keepCount: 24 }), fopruRank({ keepRatio: 0.5 })],
  };
  const [one, two] = [await plain.generate(ask), await backed.generate(ask)];
  expect(two.images).toEqual(one.images);
  expect(two.tokenIds).toEqual(one.tokenIds);
});

test('connectors that fold patches need all of them', async () => {
  await using lvlm = await Lvlm.load(familyBundle('qwen2_vl'), { cacheDirectory: CACHE });
  await expect(lvlm.check([tome()])).rejects.toThrow(UnsupportedReducerError);
  await expect(lvlm.check([tome()])).rejects.toThrow(/folds 4 patches/);
});

test('of crops with padding, reports know the tokens that are no padding', async () => {
  const made = await llavaNextBundle();
  onTestFinished(() => made.remove());
  await using lvlm = await Lvlm.load(made.bundle, { cacheDirectory: CACHE });
  const ask = { images: [picture(2, 150, 70)], prompt: PROMPT, maxNewTokens: 4 };
  const behind = fopruRank({ keepRatio: 0.5 });
  const one = await lvlm.generate({ ...ask, reducers: [tome({ keepCount: 20 }), behind] });
  const two = await lvlm.generate({ ...ask, reducers: [planned(tome({ keepCount: 20 })), behind] });
  expect(two.tokenIds).toEqual(one.tokenIds);
  expect(two.images).toEqual(one.images);
  for (const { inputTokens, steps } of one.images[0].crops) {
    const [inside, later] = steps;
    expect(inside.inputTokens).toBe(inputTokens);
    expect(inside.outputTokens).toBeLessThanOrEqual(20);
    expect(Math.max(...inside.plan.sources)).toBeLessThan(inputTokens);
    expect(later.outputTokens).toBe(Math.max(1, Math.floor(inside.outputTokens / 2)));
  }
});

/** Towers of 4 x 4 patches with and without a class token, as PyTorch and onnxruntime write their attention. */
describe.each([
  'clip-eager-17',
  'clip-sdpa-dynamo-23',
  'clip-ms-attention',
  'clip-ms-multi-head-attention',
  'siglip-eager-14',
  'siglip-ms-attention',
  'siglip-sdpa-dynamo-23',
])('the encoder %s', (name) => {
  test('gives the same features in one graph and in a part a layer', async () => {
    const file = fileURLToPath(new URL(`../../../onnx-graph/fixtures/${name}.onnx`, import.meta.url));
    const settings: EncoderSettings = {
      file,
      model: readModel(file),
      weightBytes: 0,
      visionLayers: 3,
      patchSize: 4,
      patchesPerToken: 1,
      feeds: pictureFeeds,
    };
    const sessions = createSessions(await nodePlatform(null, openGate()), { threads: 1, device: 'cpu' });
    const pixels = {
      data: Float32Array.from({ length: 3 * 16 * 16 }, (_, i) => ((i * 7919) % 257) / 128 - 1),
      width: 16,
      height: 16,
    };
    const signals = [attentionReceived()];
    const amount = { keepCount: 9 };
    const one = await openPatchedEncoder(sessions, settings, {
      sites: [],
      merging: { amount, signals: [] },
      signals,
    });
    const two = await openPatchedEncoder(sessions, settings, {
      sites: [],
      merging: { amount: null, signals: [] },
      signals,
    });
    const whole = await one.encode(pixels, [], amount);
    const [merged] = whole.plans;
    expect([merged.outputLength, two.cuts]).toEqual([9, 2]);

    // The graph's two merges, applied between the parts: the last one is what its signals are carried by.
    const first = await one.encode(pixels, [], { r: 4, inflect: -1 }); // 8 in layer 0, none in layer 1
    expect(first.fold).toBeNull();
    let parts = await two.encode(pixels, []);
    const { prefixTokens } = parts;
    const width = parts.features.data.length / parts.features.length;
    const [plan] = first.plans;
    const data = new Float32Array((prefixTokens + plan.outputLength) * width);
    data.set(parts.features.data.subarray(0, prefixTokens * width));
    for (let m = 0; m < plan.outputLength; m++) {
      for (let e = plan.offsets[m]; e < plan.offsets[m + 1]; e++) {
        const from = (prefixTokens + plan.sources[e]) * width;
        for (let d = 0; d < width; d++)
          data[(prefixTokens + m) * width + d] += plan.weights![e] * parts.features.data[from + d];
      }
    }
    const hidden = { data, length: prefixTokens + plan.outputLength };
    parts = await two.resume(0, hidden, sizesBehind([plan])!);
    const received = parts.signals[0].values;
    const [inGraph] = first.signals;
    for (const [i, value] of inGraph.values.entries())
      expect(Math.abs(received[i] - value)).toBeLessThan(1e-5);
    const end = await two.resume(1, parts.features, sizesBehind([plan])!);
    for (const [i, value] of first.features.data.entries())
      expect(Math.abs(end.features.data[i] - value)).toBeLessThan(1e-4);
    await one.release();
    await two.release();
  });
});
