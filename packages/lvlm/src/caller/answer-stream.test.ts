/** Answers token by token. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { FIXTURE, picture } from '../../test/bundles.js';
import { Lvlm, PromptError, type GeneratedToken } from '../index.js';

let lvlm: Lvlm;
beforeAll(async () => {
  lvlm = await Lvlm.load(FIXTURE);
});
afterAll(() => lvlm.dispose());

const options = { images: [picture(3)], prompt: 'What is this?', maxNewTokens: 12 };

test('gives the tokens of generate, and its result', async () => {
  const expected = await lvlm.generate(options);
  const stream = lvlm.stream(options);
  const tokens: GeneratedToken[] = [];
  let step = await stream.next();
  for (; !step.done; step = await stream.next()) tokens.push(step.value);
  expect(tokens.map(({ tokenId }) => tokenId)).toEqual(expected.tokenIds);
  expect(
    tokens
      .map(({ text }) => text)
      .join('')
      .trim(),
  ).toBe(expected.text);
  expect(step.value).toMatchObject({ tokenIds: expected.tokenIds, finishReason: expected.finishReason });
});

test('ends the call where the loop is left', async () => {
  for await (const { tokenId } of lvlm.stream({ ...options, maxNewTokens: 100_000 })) {
    expect(tokenId).toBeGreaterThanOrEqual(0);
    break;
  }
  expect((await lvlm.generate(options)).tokenIds.length).toBeGreaterThan(0);
});

test('throws what generate throws, and what ends it from outside', async () => {
  await expect(lvlm.stream({ ...options, prompt: ' ' }).next()).rejects.toThrow(PromptError);
  const outside = new AbortController();
  const stream = lvlm.stream({ ...options, maxNewTokens: 100_000, abortSignal: outside.signal });
  await stream.next();
  outside.abort(new Error('enough'));
  await expect(
    (async () => {
      while (!(await stream.next()).done);
    })(),
  ).rejects.toThrow('enough');
});
