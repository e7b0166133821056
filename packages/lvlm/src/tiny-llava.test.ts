/** The embedded model is loaded the way any bundle is: transformers.js answers the same tokens from it. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { modelDirectory, questionsFile } from '@foveate/tiny-llava';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadReference, type Reference } from '../test/transformers-js.js';
import { Lvlm } from './index.js';

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

test('answers of the embedded model', async () => {
  const lines = (await readFile(questionsFile, 'utf8')).trim().split('\n');
  for (const line of lines.filter((_, index) => index % EVERY === 0)) {
    const { image, question } = JSON.parse(line) as { image: string; question: string };
    const bytes = await readFile(path.join(path.dirname(questionsFile), image));
    const expected = await reference.answer([bytes], reference.render(question, 1), 8);
    const { tokens } = await lvlm.generate({ images: [bytes], prompt: question, maxNewTokens: 8 });
    expect(tokens, `${image}: ${question}`).toEqual(expected);
  }
});
