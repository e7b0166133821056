/**
 * One LLaVA by the routes from PyTorch to ONNX that people take (tools/export-hf/routes.py): its answers, what
 * FoPru keeps and what FastV leaves are PyTorch's, whichever operators a graph has.
 */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { atFeatures, defineReducer, mergePlan, type TokenReducer, type WeightedSources } from '@foveate/core';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { copyFileSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { AttributeProto_AttributeType, AttributeProtoSchema, ModelProtoSchema } from 'onnx-buf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CACHE } from '../../test/bundles.js';
import { familyBundle, familyCases, familyPicture, type FamilyCase } from '../../test/families.js';
import { BundleError, Lvlm, type GenerateOptions, type GenerateResult } from '../index.js';

const LLAVA = familyBundle('llava');
const ROUTES = path.join(LLAVA, 'routes');
const WEIGHTS = 'weights.onnx_data';

/** The bundle with the graphs of a route: external data has to lie beside them. */
function routeBundle(route: string): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'foveate-route-'));
  for (const file of readdirSync(LLAVA).filter((name) => name.endsWith('.json')))
    copyFileSync(path.join(LLAVA, file), path.join(folder, file));
  cpSync(path.join(ROUTES, route), path.join(folder, 'onnx'), { recursive: true });
  copyFileSync(path.join(ROUTES, WEIGHTS), path.join(folder, 'onnx', WEIGHTS));
  copyFileSync(path.join(LLAVA, 'onnx/embed_tokens.onnx'), path.join(folder, 'onnx/embed_tokens.onnx'));
  return folder;
}

describe.each(readdirSync(ROUTES).filter((name) => name !== WEIGHTS))('%s', (route) => {
  let folder: string;
  let model: Lvlm;
  beforeAll(async () => {
    folder = routeBundle(route);
    model = await Lvlm.load(folder, { cacheDirectory: CACHE });
  });
  afterAll(async () => {
    await model.dispose();
    rmSync(folder, { recursive: true });
  });

  const ask = (
    { pictures, text }: FamilyCase,
    reducers: GenerateOptions['reducers'] = [],
  ): Promise<GenerateResult> =>
    model.generate({ images: pictures.map(familyPicture), prompt: text, reducers, maxNewTokens: 8 });

  test('every token', async () => {
    for (const one of familyCases('llava')) expect((await ask(one)).tokenIds).toEqual(one.tokens);
  });

  test('attention calibrated by sizes is that of the first route', async () => {
    const pairs = (length: number): WeightedSources[] =>
      Array.from({ length: length / 2 }, (_, m) => ({ sources: [2 * m, 2 * m + 1], weights: [0.5, 0.5] }));
    const reducer = defineReducer({
      name: 'pairs',
      at: [atFeatures],
      requires: {},
      calibration: { distances: true, firstLayer: 'uniform' },
      plan: async ({ length }) => mergePlan(pairs(length), length),
    });
    const first = await Lvlm.load(LLAVA, { cacheDirectory: CACHE });
    for (const { pictures, text } of familyCases('llava')) {
      const call = {
        images: pictures.map(familyPicture),
        prompt: text,
        reducers: [reducer],
        maxNewTokens: 8,
      };
      expect((await model.generate(call)).tokenIds).toEqual((await first.generate(call)).tokenIds);
    }
    await first.dispose();
  });

  test('FoPru', async () => {
    for (const one of familyCases('llava')) {
      const { tokenIds, images } = await ask(one, [fopruRank({ keepRatio: 0.25 })]);
      expect(images.flatMap(({ crops }) => crops.map(({ steps }) => steps[0].kept))).toEqual(one.kept);
      expect(tokenIds).toEqual(one.fopruTokens);
    }
  });

  test('FastV, in the graph and between two', async () => {
    const ruled = fastv({ layer: 1, keepRatio: 0.25 });
    const { at, requires } = ruled;
    const plan: TokenReducer['plan'] = (...given) => ruled.plan(...given);
    for (const one of familyCases('llava')) {
      for (const reducer of [ruled, defineReducer({ name: 'fastv', at, requires, plan })])
        expect((await ask(one, [reducer])).tokenIds).toEqual(one.fastvTokens);
    }
  });
});

test.each([
  ['is_causal', { name: 'is_causal', type: AttributeProto_AttributeType.INT, i: 1n }, /with "is_causal"/],
  ['softcap', { name: 'softcap', type: AttributeProto_AttributeType.FLOAT, f: 30 }, /with "softcap"/],
])('ai.onnx.Attention with %s: FastV is refused, and says why', async (_, attribute, message) => {
  const folder = routeBundle('dynamo-sdpa-23');
  const file = path.join(folder, 'onnx/decoder_model_merged.onnx');
  const proto = fromBinary(ModelProtoSchema, readFileSync(file));
  for (const node of proto.graph!.node.filter(({ opType }) => opType === 'Attention')) {
    node.attribute = node.attribute.filter(({ name }) => name !== attribute.name);
    node.attribute.push(create(AttributeProtoSchema, attribute));
  }
  writeFileSync(file, toBinary(ModelProtoSchema, proto));
  const model = await Lvlm.load(folder, { cacheDirectory: CACHE });
  await expect(model.check([fastv({ layer: 1 })])).rejects.toThrow(BundleError);
  await expect(model.check([fastv({ layer: 1 })])).rejects.toThrow(message);
  await expect(model.check([fopruRank()])).resolves.toBeUndefined();
  await model.dispose();
  rmSync(folder, { recursive: true });
});
