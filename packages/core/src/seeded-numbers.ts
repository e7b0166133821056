/** Numbers for whatever is random in a method: the same for the same seed and image. */

/**
 * Uniform numbers in [0, 1), by the seed and the text alone, so that order, resuming and batching change
 * nothing. Math.random cannot be seeded.
 * @param seed an integer from 0 to 2^32 - 1
 * @param text `tokens.imageHash`, with more behind it where a method draws several times for one image
 * @example
 * const next = seededNumbers(seed, tokens.imageHash);
 * const first = next();
 */
export function seededNumbers(seed: number, text: string): () => number {
  return createGenerator(seed, hashText(text));
}

/** FNV-1a, 32 bits, over the text's UTF-16 code units, low byte first (Fowler, Noll, Vo; RFC 9923). */
export function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    hash = Math.imul(hash ^ (unit & 0xff), 0x01000193);
    hash = Math.imul(hash ^ (unit >>> 8), 0x01000193);
  }
  return hash >>> 0;
}

/**
 * sfc32 (Chris Doty-Humphrey, PractRand), its first 15 outputs passed over so that near seeds part ways.
 */
export function createGenerator(seed: number, stream: number): () => number {
  let a = seed | 0;
  let b = stream | 0;
  let c = 0;
  let counter = 1;
  const next = (): number => {
    const output = (a + b + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + output) | 0;
    return (output >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 15; i++) next();
  return next;
}
