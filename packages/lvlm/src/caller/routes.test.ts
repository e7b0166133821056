/**
 * One LLaVA by the routes from PyTorch to ONNX that people take (tools/export-hf/routes.py): its answers, what
 * FoPru keeps and what FastV leaves are PyTorch's, whichever operators a graph has.
 */
import { defineReducer, type TokenReducer } from '@foveate/core';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { copyFileSync, cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CACHE } from '../../test/bundles.js';
import { familyBundle, familyCases, familyPicture, type FamilyCase } from '../../test/families.js';
import { Lvlm, type GenerateOptions, type GenerateResult } from '../index.js';

const LLAVA = familyBundle('llava');
const ROUTES = path.join(LLAVA, 'routes');
const WEIGHTS = 'weights.onnx_data';

/** Routes whose decoders have ai.onnx.Attention, in which nothing is dropped: FastV is refused, and says why. */
const DECODER_UNREAD: ReadonlySet<string> = new Set(['dynamo-sdpa-23']);
const REFUSED =
  /decoder cannot be read or patched.*looked for the attention that reads "past_key_values\.0\.key"/;

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
    const plan: TokenReducer['plan'] = (tokens, site) => ruled.plan(tokens, site);
    for (const one of familyCases('llava')) {
      if (DECODER_UNREAD.has(route)) return expect(ask(one, [ruled])).rejects.toThrow(REFUSED);
      for (const reducer of [ruled, defineReducer({ name: 'fastv', at, requires, plan })])
        expect((await ask(one, [reducer])).tokenIds).toEqual(one.fastvTokens);
    }
  });
});
