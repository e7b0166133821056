import { expect, test } from 'vitest';
import { FIXTURE } from '../../test/bundles.js';
import { readBundle } from '../bundle/bundle.js';
import { createTokenStream } from './token-stream.js';

test('pieces join to the text, and none holds half a character', async () => {
  const { text: codec } = await readBundle(FIXTURE, 'fp32');
  const answer = 'Naïve: 漢字 and 👩‍🚀, then a very plain end. '.repeat(5);
  const next = createTokenStream(codec);
  const pieces = codec.encode(answer, 0).slice(1).map(next); // one token a byte, after the begin token
  expect(pieces.join('')).toBe(answer);
  expect(pieces.join('|')).not.toContain('\uFFFD');
  expect(pieces).toContain('漢');
});

test('bytes that are no character come out in the end', async () => {
  const { text: codec } = await readBundle(FIXTURE, 'fp32');
  const [, byte] = codec.encode('\u00e9', 0); // the first of two bytes
  const next = createTokenStream(codec);
  expect(Array.from({ length: 20 }, () => next(byte)).join('')).toContain('\uFFFD');
});
