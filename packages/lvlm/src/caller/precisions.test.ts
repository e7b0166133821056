/** Bundles in other precisions: one for all graphs, or one a graph. */
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { describe, expect, test } from 'vitest';
import { CACHE } from '../../test/bundles.js';
import { familyBundle, familyCases, familyPicture, type FamilyCase } from '../../test/families.js';
import { loadReference } from '../../test/transformers-js.js';
import { Lvlm, type GenerateOptions, type GenerateResult, type LoadOptions } from '../index.js';

const bundle = familyBundle('llava');
const cases = familyCases('llava');
const END = 258;

async function answers(
  dtype: NonNullable<LoadOptions['dtype']>,
  options: (one: FamilyCase) => Partial<GenerateOptions> = () => ({}),
): Promise<GenerateResult[]> {
  await using model = await Lvlm.load(bundle, { dtype, cacheDirectory: CACHE });
  return await Promise.all(
    cases.map((one) =>
      model.generate({
        images: one.pictures.map(familyPicture),
        prompt: one.text,
        maxNewTokens: 8,
        ...options(one),
      }),
    ),
  );
}

const tokensOf = (results: readonly GenerateResult[]): (readonly number[])[] =>
  results.map(({ tokenIds }) => tokenIds);

/** Its rounding changes none of these answers, whose choices have margins. */
describe('a decoder of float16, with its embeddings, logits and cache', () => {
  const dtype = { decoder_model_merged: 'fp16', embed_tokens: 'fp16' } as const;
  test.each([
    ['every token', [], 'tokens'],
    ['FoPru', [fopruRank({ keepRatio: 0.25 })], 'fopruTokens'],
    ['FastV', [fastv({ layer: 1, keepRatio: 0.25 })], 'fastvTokens'],
  ] as const)('%s', async (_, reducers, expected) => {
    const results = await answers(dtype, () => ({ reducers }));
    expect(tokensOf(results)).toEqual(cases.map((one) => one[expected]));
    const { kvBytes, cached } = results[0].memory;
    // 3 layers, keys and values of 2 heads of 8 numbers of 2 bytes.
    if (reducers.length === 0)
      expect(kvBytes).toBe(3 * 2 * 2 * 8 * 2 * (cached.text + cached.visual + cached.generated));
  });
});

test('an encoder of float16: FoPru keeps the same tokens', async () => {
  const results = await answers({ vision_encoder: 'fp16' }, () => ({
    reducers: [fopruRank({ keepRatio: 0.25 })],
  }));
  const kept = results.map(({ images }) => images.map(({ crops: [{ steps }] }) => steps[0].kept));
  expect(kept).toEqual(cases.map((one) => one.kept));
});

describe.each(['q8', { decoder_model_merged: 'q4' }] as const)('%o', (dtype) => {
  // How int8 rounds depends on how many tokens are run together: there is an oracle with all tokens only.
  test('answers as transformers.js with every token', async () => {
    const reference = await loadReference(
      bundle,
      typeof dtype === 'string' ? dtype : { vision_encoder: 'fp32', embed_tokens: 'fp32', ...dtype },
    );
    const [one] = cases;
    const images = one.pictures.map(familyPicture);
    const expected = await reference.answer(images, reference.render(one.text, images.length), 8);
    await reference.dispose();
    const [{ tokenIds }] = await answers(dtype);
    expect(tokenIds).toEqual(expected.filter((token) => token !== END));
  });

  test('reduces before and inside the language model', async () => {
    const reducers = [fopruRank({ keepRatio: 0.5 }), fastv({ layer: 1, keepRatio: 0.5 })];
    for (const { images } of await answers(dtype, () => ({ reducers }))) {
      expect(images.map(({ crops: [{ steps }] }) => steps[0].outputTokens)).toEqual(images.map(() => 8));
      const left = images.map(({ outputTokens }) => outputTokens);
      expect(left.reduce((sum, count) => sum + count, 0)).toBe(4 * images.length);
    }
  });
});

test("a bundle's own choice of dtype", async () => {
  await expect(Lvlm.load(bundle, { dtype: { vision_encoder: 'q4' } })).rejects.toThrow(
    /vision_encoder_q4\.onnx is missing.*Of vision_encoder there is the dtype fp32, fp16, q8\./,
  );
  await expect(Lvlm.load(bundle, { dtype: { decoder: 'q4' } as never })).rejects.toThrow(
    /dtype must be one of auto/,
  );
});
