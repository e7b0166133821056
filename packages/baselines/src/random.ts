import {
  atFeatures,
  budgetOf,
  budgetOptions,
  defineOptions,
  defineReducer,
  integerOption,
  resolveBudget,
  seededNumbers,
  selectionPlan,
  type OptionsOf,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';

const byDefault = { keepRatio: 0.25 };

const options = defineOptions({
  ...budgetOptions(byDefault),
  seed: integerOption(
    { from: 0, to: 2 ** 32 - 1, default: 0 },
    'another seed draws other tokens; below 2^32',
  ),
});

/** Options of {@link random}; the README's table says what each does. */
export type RandomOptions = OptionsOf<typeof options.schema>;

/**
 * Keeps tokens drawn at random, every set of that size equally likely: the floor that any method must beat.
 * The draw depends on the seed and the image's hash alone, so order, resuming and batching change nothing; a
 * smaller budget keeps a subset of what a larger one keeps.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * random({ keepRatio: 0.25, seed: 1 });
 */
export function random(given: RandomOptions = {}): TokenReducer {
  const checked = options.check(given);
  const { seed } = checked;
  const budget = budgetOf(checked) ?? byDefault;
  return defineReducer({
    name: 'random',
    at: [atFeatures],
    requires: {},
    plan: async ({ imageHash, length }) => {
      const { count, warnings } = resolveBudget(budget, length);
      const kept = drawWithoutReplacement(count, length, seededNumbers(seed, imageHash));
      return selectionPlan(kept.sort(), length, { warnings });
    },
  });
}

/** How `foveate` and other registries know the method. */
export const randomEntry: ReducerEntry = reducerEntry({
  name: 'random',
  description: 'a draw by the seed and the image: the other floor',
  options,
  create: random,
});

/** The first `count` places of a Fisher-Yates shuffle of 0 .. length - 1. */
function drawWithoutReplacement(count: number, length: number, next: () => number): Uint32Array {
  const deck = Uint32Array.from({ length }, (_, index) => index);
  for (let i = 0; i < count; i++) {
    const j = i + Math.floor(next() * (length - i));
    [deck[i], deck[j]] = [deck[j], deck[i]];
  }
  return deck.slice(0, count);
}
