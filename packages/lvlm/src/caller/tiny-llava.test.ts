/**
 * The embedded model is loaded the way any bundle is: transformers.js answers the same tokens from it, and a
 * Llama in plain JS does where FastV prunes.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { modelDirectory, questionsFile } from '@foveate/tiny-llava';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { enteringRows, referenceAnswer } from '../../test/language-models.js';
import { readLlama } from '../../test/llama.js';
import { openPlainDecoding } from '../../test/plain-decoding.js';
import { loadReference, type Reference } from '../../test/transformers-js.js';
import { readBundle } from '../bundle/bundle.js';
import { decodeImage } from '../platform/image-files.js';
import { Lvlm } from '../index.js';
import { resize } from '../platform/node.js';
import { preprocess } from '../bundle/preprocessing.js';

const EVERY = 90; // of the shipped questions: 13 of 1,088, of all kinds

let lvlm: Lvlm;
let reference: Reference;
beforeAll(async () => {
  lvlm = await Lvlm.load(modelDirectory);
  reference = await loadReference(modelDirectory);
});
afterAll(async () => {
  await lvlm.dispose();
  await reference.dispose();
});

/** Some of the shipped questions with their images. */
async function questions(every: number): Promise<{ image: string; question: string; bytes: Uint8Array }[]> {
  const lines = (await readFile(questionsFile, 'utf8')).trim().split('\n');
  const chosen = lines.filter((_, index) => index % every === 0);
  return Promise.all(
    chosen.map(async (line) => {
      const { image, question } = JSON.parse(line) as { image: string; question: string };
      return { image, question, bytes: await readFile(path.join(path.dirname(questionsFile), image)) };
    }),
  );
}

test('answers of the embedded model', async () => {
  for (const { image, question, bytes } of await questions(EVERY)) {
    const expected = await reference.answer([bytes], reference.render(question, 1), 8);
    const { tokenIds } = await lvlm.generate({ images: [bytes], prompt: question, maxNewTokens: 8 });
    expect(tokenIds, `${image}: ${question}`).toEqual(expected);
  }
});

test.each([1, 2])('answers where FastV prunes before layer %i', async (layer) => {
  const bundle = await readBundle(modelDirectory, 'fp32');
  const plain = await openPlainDecoding(modelDirectory);
  const sizes = { heads: lvlm.info.kvHeads, kvHeads: lvlm.info.kvHeads, headDim: 32, epsilon: 1e-6 };
  const llama = readLlama(bundle.graphs.decoder_model_merged, sizes);
  const fast = fastv({ layer, keepRatio: 0.25 });
  const fopru = fopruRank({ keepRatio: 0.5 });
  for (const [index, { image, question, bytes }] of (await questions(600)).entries()) {
    const reducers = index % 2 === 0 ? [fast] : [fopru, fast];
    const result = await lvlm.generate({ images: [bytes], prompt: question, reducers, maxNewTokens: 3 });
    const pixels = await preprocess(
      await decodeImage(bytes, 'image', 2 ** 26),
      bundle.family.preprocessing,
      resize,
    );
    const rows = await enteringRows(plain, pixels, result.images[0].crops[0].steps);
    const ids = bundle.text.encode(bundle.text.render([{ role: 'user', text: question, images: 1 }]), 1);
    const expected = await referenceAnswer({ llama, plain }, ids, [rows], fast, 3);
    expect(result.images[0].crops[0].steps.at(-1)?.plan.sources, image).toEqual(expected.plans[0].sources);
    expect(result.tokenIds, `${image}: ${question}`).toEqual(expected.tokens);
    expect(result.equivalentTokens).toBe((rows.length * layer + (rows.length / 4) * (6 - layer)) / 6);
  }
});
