import { describe, expect, test } from 'vitest';
import { WorkerError } from '../platform/errors.js';
import { createSampler } from './sampling.js';

describe('greedy', () => {
  const greedy = createSampler(0, 0);
  test('takes the highest logit, ties to the lowest id', () => {
    expect(greedy(Float32Array.of(-3, 2, 5, 5, 1))).toBe(2);
    expect(greedy(Float32Array.of(-7))).toBe(0);
    expect(greedy(Float32Array.of(-Infinity, -8, -Infinity))).toBe(1);
  });

  test('refuses what is no number', () => {
    expect(() => greedy(Float32Array.of(NaN, NaN))).toThrow(WorkerError);
    expect(() => greedy(Float32Array.of(1, Infinity))).toThrow(WorkerError);
  });
});

describe('sampling', () => {
  /** Draws `n` times from logits whose softmax at temperature 1 is 0.1, 0.2, 0.7. */
  const shares = (temperature: number, n = 20_000): number[] => {
    const sample = createSampler(temperature, 1);
    const logits = Float32Array.of(Math.log(1), Math.log(2), Math.log(7));
    const counts = [0, 0, 0];
    for (let i = 0; i < n; i++) counts[sample(logits)]++;
    return counts.map((count) => count / n);
  };

  // Four standard deviations of a share of 20,000 draws are at most 4 * sqrt(0.25 / 20,000) = 0.014.
  test.each([
    [1, [0.1, 0.2, 0.7]],
    [0.5, [1 / 54, 4 / 54, 49 / 54]], // softmax of twice the logits: squares
    [2, [1, Math.SQRT2, Math.sqrt(7)].map((weight) => weight / (1 + Math.SQRT2 + Math.sqrt(7)))],
  ])('at temperature %d draws from the softmax', (temperature, expected) => {
    for (const [id, share] of shares(temperature).entries())
      expect(Math.abs(share - expected[id])).toBeLessThan(0.014);
  });

  test('never draws the impossible, and repeats with its seed', () => {
    const logits = Float32Array.of(0, -Infinity, 0, 1e4);
    const draws = (seed: number): number[] => {
      const sample = createSampler(3, seed);
      return Array.from({ length: 50 }, () => sample(logits.subarray(0, 3)));
    };
    expect(draws(5)).not.toContain(1);
    expect(draws(5)).toEqual(draws(5));
    expect(draws(5)).not.toEqual(draws(6));
    expect(createSampler(1, 0)(logits)).toBe(3);
  });
});
