/** A family with another encoder and positions of three dimensions in other precisions than float32. */
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { expect, test } from 'vitest';
import { CACHE } from '../../test/bundles.js';
import { familyBundle, familyCases, familyPicture } from '../../test/families.js';
import { loadFamilyReference } from '../../test/transformers-js-family.js';
import { Lvlm, type GenerateOptions, type GenerateResult, type LoadOptions } from '../index.js';

const bundle = familyBundle('qwen2_vl');
const cases = familyCases('qwen2_vl');

async function answers(
  dtype: NonNullable<LoadOptions['dtype']>,
  reducers: NonNullable<GenerateOptions['reducers']>,
): Promise<GenerateResult[]> {
  await using model = await Lvlm.load(bundle, { dtype, cacheDirectory: CACHE });
  return await Promise.all(
    cases.map(({ pictures, text }) =>
      model.generate({ images: pictures.map(familyPicture), prompt: text, maxNewTokens: 8, reducers }),
    ),
  );
}

const FP16 = { decoder_model_merged: 'fp16', embed_tokens: 'fp16', vision_encoder: 'fp32' } as const;
const Q4 = { decoder_model_merged: 'q4', embed_tokens: 'fp32', vision_encoder: 'fp32' } as const;

// Of FoPru's answers two have choices that float16 rounds otherwise: PyTorch's margins are those of float32.
test.each([
  ['every token', [], 'tokens'],
  ['FastV', [fastv({ layer: 1, keepRatio: 0.25 })], 'fastvTokens'],
] as const)('a decoder of float16, %s: answers as PyTorch', async (_, reducers, expected) => {
  const results = await answers(FP16, reducers);
  expect(results.map(({ tokenIds }) => tokenIds)).toEqual(cases.map((one) => one[expected]));
});

// Not of float16: transformers.js puts features among embeddings of float32 alone.
test.each(['q8', Q4] as const)('%o answers as transformers.js with every token', async (dtype) => {
  const reference = await loadFamilyReference(bundle, dtype);
  const results = await answers(dtype, []);
  for (const [i, { pictures, text }] of cases.entries()) {
    if (pictures.length > 1) continue;
    const expected = await reference.answer(familyPicture(pictures[0]), text, 8);
    expect(results[i].tokenIds).toEqual(expected);
  }
  await reference.dispose();
});

test.each([FP16, 'q8', Q4] as const)('%o reduces before and inside the language model', async (dtype) => {
  const reducers = [fopruRank({ keepRatio: 0.5 }), fastv({ layer: 1, keepRatio: 0.5 })];
  for (const { images, memory } of await answers(dtype, reducers)) {
    const left = images.map(({ outputTokens }) => outputTokens).reduce((sum, count) => sum + count, 0);
    expect(left).toBe(Math.floor(memory.cached.visual / 2));
    expect(memory.cached.visual).toBe(
      images.flatMap(({ crops }) => crops).reduce((sum, crop) => sum + Math.floor(crop.inputTokens / 2), 0),
    );
  }
});
