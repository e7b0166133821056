/** Text of tokens as they come. */
import type { TextCodec } from '../bundle/text-codec.js';

/**
 * Of how many tokens before a new one its text can depend: spaces at a word's start, characters of several
 * tokens.
 */
const CONTEXT = 8;

/**
 * A function that takes each new token and returns the text it adds; empty while a character is incomplete
 * (its decoding ends in U+FFFD). Only the last few tokens are decoded again, so a token costs the same
 * however long the answer is.
 */
export function createTokenStream(codec: TextCodec): (token: number) => string {
  const tokens: number[] = [];
  let start = 0; // tokens before are not looked at any more
  let done = 0; // tokens whose text is out
  return (token) => {
    tokens.push(token);
    const before = codec.decode(tokens.slice(start, done));
    const after = codec.decode(tokens.slice(start));
    if (after.endsWith('\uFFFD') && tokens.length - done < CONTEXT) return '';
    start = Math.max(start, done - CONTEXT);
    done = tokens.length;
    return after.slice(before.length);
  };
}
