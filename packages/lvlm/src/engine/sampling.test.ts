import { describe, expect, test } from 'vitest';
import { WorkerError } from '../platform/errors.js';
import { plainRules, type GenerationRules } from '../bundle/generation-rules.js';
import { createSampler } from './sampling.js';

/** A sampler without what came before. */
function sampler(
  temperature: number,
  seed: number,
  rules: Partial<GenerationRules> = {},
): (logits: Float32Array, ...seen: number[]) => number {
  const sample = createSampler({ ...plainRules, ...rules, temperature, seed });
  return (logits, ...seen) => sample(logits, new Set(seen));
}

describe('greedy', () => {
  const greedy = sampler(0, 0);
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
    const sample = sampler(temperature, 1);
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
      const sample = sampler(3, seed);
      return Array.from({ length: 50 }, () => sample(logits.subarray(0, 3)));
    };
    expect(draws(5)).not.toContain(1);
    expect(draws(5)).toEqual(draws(5));
    expect(draws(5)).not.toEqual(draws(6));
    expect(sampler(1, 0)(logits)).toBe(3);
  });
});

/** Expected: what transformers' TopKLogitsWarper, TopPLogitsWarper, MinPLogitsWarper and RepetitionPenaltyLogitsProcessor leave or make. */
describe('rules', () => {
  const logits = Float32Array.of(2, 1.5, -1, 0.5, 1.4, -2, 0, 1.9);
  test.each<[Partial<GenerationRules>, number, number[]]>([
    [{ topK: 3 }, 1, [0, 1, 7]],
    [{ topP: 0 }, 1, [0]],
    [{ topP: 0.6 }, 1, [0, 1, 7]],
    [{ topP: 0.6 }, 0.5, [0, 7]],
    [{ minP: 0.5 }, 1, [0, 1, 4, 7]],
    [{ minP: 0.5 }, 2, [0, 1, 4, 7]],
    [{ topK: 5, topP: 0.7 }, 1, [0, 1, 7]],
    [{ topK: 100 }, 50, [0, 1, 2, 3, 4, 5, 6, 7]],
  ])('%o at temperature %d draws from %j', (rules, temperature, expected) => {
    const sample = sampler(temperature, 1, rules);
    const drawn = new Set(Array.from({ length: 2000 }, () => sample(logits)));
    expect([...drawn].sort()).toEqual(expected);
  });

  test('a repetition penalty, at temperature 0 too', () => {
    const scores = Float32Array.of(2, 1.9, -1);
    expect(sampler(0, 0, { repetitionPenalty: 1.3 })(scores, 0, 0)).toBe(1); // 2 / 1.3 = 1.54
    expect(sampler(0, 0, { repetitionPenalty: 1.3 })(scores, 0, 1)).toBe(0); // 1.54 and 1.46
    expect(sampler(0, 0, { repetitionPenalty: 1.5 })(Float32Array.of(-3, -2.5, -2), 2)).toBe(1); // -2 * 1.5
    expect([...scores]).toEqual([2, Math.fround(1.9), -1]);
  });
});
