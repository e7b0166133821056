/**
 * Every family answers as PyTorch does: with all visual tokens, with those that FoPru keeps, and where FastV
 * drops some inside the language model. Its numbers come from models run whole for every token, without any
 * cache.
 */
import { defineReducer, type TokenReducer } from '@foveate/core';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CACHE } from '../../test/bundles.js';
import { familyBundle, familyCases, familyPicture, type FamilyCase } from '../../test/families.js';
import { Lvlm, type GenerateOptions, type GenerateResult } from '../index.js';

describe.each([
  'llava',
  'llava_clip',
  'llava_next',
  'llava_onevision',
  'idefics3',
  'smolvlm',
  'qwen2_vl',
  'qwen2_5_vl',
])('%s', (family) => {
  let model: Lvlm;
  beforeAll(async () => {
    model = await Lvlm.load(familyBundle(family), { cacheDirectory: CACHE });
  });
  afterAll(() => model.dispose());

  const ask = (
    { pictures, text }: FamilyCase,
    reducers: GenerateOptions['reducers'] = [],
  ): Promise<GenerateResult> =>
    model.generate({ images: pictures.map(familyPicture), prompt: text, reducers, maxNewTokens: 8 });

  test.each(familyCases(family))('$pictures: every token', async (one) => {
    const { tokenIds, images, memory } = await ask(one);
    expect(images.map(({ crops }) => crops.map(({ inputTokens }) => inputTokens))).toEqual(one.counts);
    expect(memory.cached.text + memory.cached.visual).toBe(one.ids.length);
    expect(tokenIds).toEqual(one.tokens);
  });

  test.each(familyCases(family))('$pictures: FoPru', async (one) => {
    if (!one.kept) return expect(ask(one, [fopruRank()])).rejects.toThrow(/resamples them/);
    const { tokenIds, images } = await ask(one, [fopruRank({ keepRatio: 0.25 })]);
    expect(images.flatMap(({ crops }) => crops.map(({ steps }) => steps[0].kept))).toEqual(one.kept);
    expect(tokenIds).toEqual(one.fopruTokens);
  });

  test.each(familyCases(family))('$pictures: FastV, in the graph and between two', async (one) => {
    const ruled = fastv({ layer: 1, keepRatio: 0.25 });
    const { at, requires } = ruled;
    const plan: TokenReducer['plan'] = (...given) => ruled.plan(...given);
    for (const reducer of [ruled, defineReducer({ name: 'fastv', at, requires, plan })]) {
      const { tokenIds } = await ask(one, [reducer]);
      expect(tokenIds).toEqual(one.fastvTokens);
    }
  });
});
