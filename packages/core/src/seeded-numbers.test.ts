import { describe, expect, it } from 'vitest';
import { createGenerator, hashText, seededNumbers } from './seeded-numbers.js';

describe('seededNumbers', () => {
  it('depends on the seed and the text alone', () => {
    const draw = (seed: number, text: string): number[] => {
      const next = seededNumbers(seed, text);
      return [next(), next(), next()];
    };
    expect(draw(7, 'one')).toEqual(draw(7, 'one'));
    expect(draw(7, 'one')).not.toEqual(draw(8, 'one'));
    expect(draw(7, 'one')).not.toEqual(draw(7, 'two'));
    expect(draw(7, 'one').every((number) => number >= 0 && number < 1)).toBe(true);
  });
});

describe('hashText', () => {
  it.each([
    ['', 0x811c9dc5],
    ['foobar', 0xbf9cf968],
  ])('has the published FNV-1a value of the bytes of %j', (bytes, hash) => {
    // Text whose UTF-16 code units, low byte first, are those bytes.
    expect(hashText(Buffer.from(bytes, 'latin1').toString('utf16le'))).toBe(hash);
  });
});

describe('createGenerator', () => {
  it('is sfc32', () => {
    const mask = 0xffffffffn;
    let [a, b, c, counter] = [7n, 9n, 0n, 1n];
    const outputs = Array.from({ length: 20 }, () => {
      const output = (a + b + counter++) & mask;
      [a, b, c] = [
        b ^ (b >> 9n),
        (c + (c << 3n)) & mask,
        ((((c << 21n) | (c >> 11n)) & mask) + output) & mask,
      ];
      return Number(output) / 2 ** 32;
    });
    const next = createGenerator(7, 9);
    expect([next(), next(), next(), next(), next()]).toEqual(outputs.slice(15));
  });
});
