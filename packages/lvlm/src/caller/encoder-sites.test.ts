/** Reducers inside the vision encoder: in its graph, and between its parts. */
import {
  attentionReceived,
  classAttention,
  defineReducer,
  GridRequiredError,
  selectionPlan,
  topIndicesAscending,
  type SignalRequest,
  type TokenReducer,
} from '@foveate/core';
import { earlyDrop } from '@foveate/early-drop';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { fopruRow } from '@foveate/fopru-row';
import { readModel } from '@foveate/onnx-graph/files';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { CACHE, FIXTURE, picture } from '../../test/bundles.js';
import { llavaNextBundle } from '../../test/llava-next.js';
import { openPatchedEncoder, type EncoderSettings } from '../engine/encoder.js';
import { createSessions } from '../engine/sessions.js';
import type { VisionRequest } from '../engine/api.js';
import { pictureFeeds } from '../families/llava.js';
import { Lvlm } from '../index.js';
import { nodePlatform } from '../platform/node.js';
import { openGate } from '../platform/run-gate.js';

const PROMPT = 'What is this?';
/** Patches of the fixture: 8 x 8. */
const PATCHES = 64;

/** The fixture's encoder has two layers. */
const drop = (keepCount: number): TokenReducer => earlyDrop({ layer: 1, keepCount });

/** The same choice, which the runner cannot make inside the graph: `plan` makes it between two. */
function planned({ rule, ...rest }: TokenReducer): TokenReducer {
  expect(rule).toBeDefined();
  return rest;
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
    ['alone', []],
    ['with FoPru and FastV behind it', [fopruRank({ keepRatio: 0.5 }), fastv({ layer: 1, keepRatio: 0.5 })]],
  ])('in the graph or between its parts, %s: the same tokens and reports', async (_, behind) => {
    const one = await lvlm.generate({ ...ask, reducers: [drop(20), ...behind] });
    const two = await lvlm.generate({ ...ask, reducers: [planned(drop(20)), ...behind] });
    expect(two.tokenIds).toEqual(one.tokenIds);
    expect(two.images).toEqual(one.images);
    expect(two.memory.kvBytes).toBe(one.memory.kvBytes);
  });

  test('the patches that are left are known by their number in the original grid', async () => {
    const seen: number[] = [];
    const spy = defineReducer({
      name: 'spy',
      at: [{ tower: 'vision', layer: 'features' }],
      requires: { received: attentionReceived() },
      plan: async ({ length, grid, signals }) => {
        seen.push(length, signals.received.length);
        expect(grid).toBeUndefined();
        return selectionPlan([1, 3], length);
      },
    });
    const plain = await lvlm.generate({ ...ask, reducers: [] });
    const { images } = await lvlm.generate({ ...ask, reducers: [drop(20), spy] });
    expect(seen).toEqual([20, 20, 20, 20]);
    for (const [i, { crops, inputTokens, outputTokens }] of images.entries()) {
      const [{ grid, region, steps }] = crops;
      expect({ grid, region }).toEqual({
        grid: { rows: 8, columns: 8 },
        region: plain.images[i].crops[0].region,
      });
      expect([inputTokens, outputTokens]).toEqual([PATCHES, 2]);
      expect(steps.map(({ reducer, site }) => [reducer, site.layer])).toEqual([
        ['early-drop', 1],
        ['spy', 'features'],
      ]);
      const [inside, behind] = steps.map(({ kept }) => kept!);
      expect(inside).toHaveLength(20);
      expect(inside.at(-1)).toBeGreaterThan(20);
      expect(behind).toEqual([inside[1], inside[3]]);
    }
  });

  test('what needs the grid says that there is none any more', async () => {
    const reducers = [drop(20), fopruRow({ keepRatio: 0.5 })];
    await expect(lvlm.generate({ ...ask, reducers })).rejects.toThrow(GridRequiredError);
  });

  test('keeping every patch changes nothing, and the grid stays', async () => {
    const none = await lvlm.generate({ ...ask, reducers: [fopruRow({ keepRatio: 0.5 })] });
    for (const all of [drop(1000), planned(drop(1000))]) {
      const { tokenIds, images } = await lvlm.generate({
        ...ask,
        reducers: [all, fopruRow({ keepRatio: 0.5 })],
      });
      expect(tokenIds).toEqual(none.tokenIds);
      expect(images[0].crops[0].steps[1].kept).toEqual(none.images[0].crops[0].steps[0].kept);
    }
  });

  test('another budget is never served from the encoding before', async () => {
    const reuse = { ...ask, reuseEncoding: true };
    for (const count of [20, 7, 20]) {
      for (const reducer of [drop(count), planned(drop(count))]) {
        const fresh = await lvlm.generate({ ...ask, reducers: [reducer] });
        const again = await lvlm.generate({ ...reuse, reducers: [reducer] });
        expect(again.tokenIds).toEqual(fresh.tokenIds);
        expect(again.images[0].outputTokens).toBe(count);
      }
    }
  });
});

test('of crops with padding, reports and later methods know the tokens that are no padding', async () => {
  const made = await llavaNextBundle();
  onTestFinished(() => made.remove());
  await using lvlm = await Lvlm.load(made.bundle, { cacheDirectory: CACHE });
  const ask = { images: [picture(2, 150, 70)], prompt: PROMPT, maxNewTokens: 4 };
  const behind = fopruRank({ keepRatio: 0.5 });
  const none = await lvlm.generate({ ...ask, reducers: [] });
  const one = await lvlm.generate({ ...ask, reducers: [drop(20), behind] });
  const two = await lvlm.generate({ ...ask, reducers: [planned(drop(20)), behind] });
  expect(two.tokenIds).toEqual(one.tokenIds);
  expect(two.images).toEqual(one.images);
  const [{ crops }] = one.images;
  expect(crops.some(({ inputTokens }) => inputTokens < PATCHES)).toBe(true);
  for (const [c, { inputTokens, steps, grid, region }] of crops.entries()) {
    const [whole] = none.images;
    expect({ inputTokens, grid, region }).toEqual({
      inputTokens: whole.crops[c].inputTokens,
      grid: whole.crops[c].grid,
      region: whole.crops[c].region,
    });
    const [inside, later] = steps;
    expect(inside.inputTokens).toBe(inputTokens);
    expect(inside.outputTokens).toBeLessThanOrEqual(20);
    expect(Math.max(...inside.kept!)).toBeLessThan(inputTokens);
    expect(later.outputTokens).toBe(Math.max(1, Math.floor(inside.outputTokens / 2)));
    expect(later.kept!.every((token) => inside.kept!.includes(token))).toBe(true);
  }
});

/** By the class token of layer 0, and by all patches. */
const byClass: SignalRequest = classAttention({ layer: 0, heads: 'mean' });
const byPatches: SignalRequest = attentionReceived({ layer: 0 });

/** Towers of 4 x 4 patches with and without a class token, as PyTorch and onnxruntime write their attention. */
describe.each([
  ['clip-eager-17', byClass],
  ['clip-sdpa-dynamo-23', byClass],
  ['clip-ms-attention', byClass],
  ['clip-ms-multi-head-attention', byClass],
  ['clip-ms-multi-head-attention', byPatches],
  ['siglip-eager-14', byPatches],
  ['siglip-ms-attention', byPatches],
  ['siglip-sdpa-dynamo-23', byPatches],
])('the encoder %s', (name, score) => {
  test('gives the same patches and features in one graph and in two', async () => {
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
    const rule = { score, budget: { keepCount: 6 } };
    const open = (site: VisionRequest['sites'][number]) =>
      openPatchedEncoder(sessions, settings, { sites: [site], merging: null, signals: [] });
    const one = await open({ layer: 1, rule, signals: [], positions: 'original' });
    const inGraph = await one.encode(pixels, [rule]);
    const two = await open({ layer: 1, rule: null, signals: [score], positions: 'original' });
    const below = await two.encode(pixels, []);
    const kept = topIndicesAscending(below.signals[0].values, 6);
    expect([...inGraph.plans[0].sources]).toEqual([...kept]);
    const width = below.features.data.length / below.features.length;
    const prefix = Array.from({ length: below.prefixTokens }, (_, i) => i);
    const rows = [...prefix, ...Array.from(kept, (patch) => patch + below.prefixTokens)];
    const hidden = Float32Array.from(
      rows.flatMap((row) => [...below.features.data.subarray(row * width, (row + 1) * width)]),
    );
    const above = await two.resume(0, { data: hidden, length: rows.length });
    expect(above.features.length).toBe(6);
    for (const [i, value] of inGraph.features.data.entries())
      expect(Math.abs(above.features.data[i] - value)).toBeLessThan(1e-4);
    await one.release();
    await two.release();
  });
});
