import {
  checkBudget,
  defineReducer,
  InvalidArgumentError,
  resolveBudget,
  selectionPlan,
  type Budget,
  type VisionReducer,
} from '@foveate/core';
import { hashText, createGenerator } from './generator.js';

/** Options of {@link createRandom}. */
export interface RandomOptions {
  /**
   * How many tokens to keep: `{ keepRatio }` in (0, 1], floor(N * keepRatio) tokens and at least 1; or `{ keepCount }`. Default `{ keepRatio: 0.25 }`.
   */
  readonly budget?: Budget;
  /** Another seed draws other tokens; an integer in [0, 2^32). Default 0. */
  readonly seed?: number;
}

/** What holds where an option is absent. */
export const randomDefaults: Required<RandomOptions> = { budget: { keepRatio: 0.25 }, seed: 0 };

/**
 * Keeps tokens drawn at random, every set of that size equally likely: the floor that any method must beat. The draw depends on the seed and
 * the image's key alone, so order, resuming and batching change nothing; a smaller budget keeps a subset of what a larger one keeps.
 * @throws InvalidArgumentError on an option out of its range
 */
export function createRandom(options: RandomOptions = {}): VisionReducer {
  const { budget, seed } = { ...randomDefaults, ...options };
  checkBudget(budget);
  if (!(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32)) {
    throw new InvalidArgumentError('seed', seed, 'an integer in [0, 2^32)');
  }
  return defineReducer<VisionReducer>({
    specificationVersion: 1,
    name: 'random',
    stage: 'vision',
    requires: [],
    plan: async ({ key, length }) => {
      const { count, warnings } = resolveBudget(budget, length);
      const kept = drawWithoutReplacement(count, length, createGenerator(seed, hashText(key)));
      return selectionPlan(kept.sort(), length, { warnings });
    },
  });
}

/** The first `count` places of a Fisher-Yates shuffle of 0 .. length - 1. */
function drawWithoutReplacement(count: number, length: number, next: () => number): Uint32Array {
  const deck = Uint32Array.from({ length }, (_, index) => index);
  for (let i = 0; i < count; i++) {
    const j = i + Math.floor(next() * (length - i));
    [deck[i], deck[j]] = [deck[j], deck[i]];
  }
  return deck.slice(0, count);
}
