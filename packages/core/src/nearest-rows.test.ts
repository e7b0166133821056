import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InvalidArgumentError, InvalidSignalError } from './errors.js';
import { nearestRows, nearestRowsWith, type RowProducts } from './nearest-rows.js';

/**
 * Sums in float64, each then wrong by a share in [-1, 1] of what summing and rounding in float32 can cost.
 */
function productsWith(shares: readonly number[]): RowProducts {
  return async (rows, others, channels) => {
    const [m, n] = [rows.length / channels, others.length / channels];
    return Float32Array.from({ length: m * n }, (_, at) => {
      const [row, other] = [Math.floor(at / n) * channels, (at % n) * channels];
      let sum = 0;
      for (let d = 0; d < channels; d++) sum += rows[row + d] * others[other + d];
      return sum + (shares[at % shares.length] * channels) / 2 ** 24;
    });
  };
}

describe('nearestRowsWith', () => {
  /**
   * Whole numbers and what is barely more: equal keys, keys of norm 0, and cosines that float32 cannot tell
   * apart.
   */
  const value = fc
    .tuple(fc.integer({ min: -2, max: 2 }), fc.constantFrom(0, 0, 2 ** -20, 2 ** -23))
    .map(([whole, more]) => Math.fround(whole * (1 + more)));
  const cases = fc
    .record({ length: fc.integer({ min: 1, max: 40 }), channels: fc.integer({ min: 1, max: 5 }) })
    .chain(({ length, channels }) =>
      fc.record({
        length: fc.constant(length),
        keys: fc.array(value, { minLength: length * channels, maxLength: length * channels }),
        of: fc.array(fc.nat(length - 1), { maxLength: 6 }),
        k: fc.integer({ min: 1, max: 45 }),
        errors: fc.array(fc.double({ min: -1, max: 1, noNaN: true }), { minLength: 1, maxLength: 50 }),
      }),
    );

  it('finds the same tokens as without, however the products are rounded', async () => {
    await fc.assert(
      fc.asyncProperty(cases, async ({ length, keys, of, k, errors }) => {
        const given = [Float32Array.from(keys), length, Uint32Array.from(of), k] as const;
        expect(await nearestRowsWith(productsWith(errors), ...given)).toEqual(nearestRows(...given));
      }),
      { numRuns: 500 },
    );
  });

  it('leaves to the products which cosines are looked at', async () => {
    // Token 1 is nearest to token 0; products that say -1 of it hide it.
    const keys = Float32Array.of(1, 0, 1, 0.1, 0, 1);
    const hiding: RowProducts = async () => Float32Array.of(1, -1, 0);
    expect([...(await nearestRowsWith(hiding, keys, 3, Uint32Array.of(0), 1))]).toEqual([2]);
    expect([...nearestRows(keys, 3, Uint32Array.of(0), 1)]).toEqual([1]);
  });

  it('asks for products of keys of norm 1, and for none where there is nothing to find', async () => {
    const asked: unknown[] = [];
    const products: RowProducts = async (rows, others, channels) => {
      asked.push([...rows], [...others], channels);
      return Float32Array.of(0.6, 1);
    };
    const keys = Float32Array.of(3, 4, 2, 0);
    expect([...(await nearestRowsWith(products, keys, 2, Uint32Array.of(1), 9))]).toEqual([0]);
    expect(asked).toEqual([[1, 0], [Math.fround(0.6), Math.fround(0.8), 1, 0], 2]);
    expect(await nearestRowsWith(products, keys, 2, Uint32Array.of(), 1)).toHaveLength(0);
    expect(await nearestRowsWith(products, keys.subarray(2), 1, Uint32Array.of(0), 1)).toHaveLength(0);
    expect(asked).toHaveLength(3);
  });

  it('refuses what cannot be compared before it asks for anything', async () => {
    const products: RowProducts = () => Promise.reject(new Error('asked'));
    const find = (keys: number[], length: number, of: number[], k: number): Promise<Uint32Array> =>
      nearestRowsWith(products, Float32Array.from(keys), length, Uint32Array.from(of), k);
    await expect(find([1, 2, 3], 2, [0], 1)).rejects.toThrow(InvalidArgumentError);
    await expect(find([1, 2], 2, [2], 1)).rejects.toThrow('of must be');
    await expect(find([1, 2], 2, [0], 0)).rejects.toThrow('k must be');
    await expect(find([1, NaN], 2, [0], 1)).rejects.toThrow(InvalidSignalError);
    await expect(find([1, 2], 2, [0], 1)).rejects.toThrow('asked');
  });
});
