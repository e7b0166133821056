import {
  atFeatures,
  budgetOf,
  budgetOptions,
  defineOptions,
  defineReducer,
  GridRequiredError,
  resolveBudget,
  selectionPlan,
  type Grid,
  type OptionsOf,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';

const byDefault = { keepRatio: 0.25 };

const options = defineOptions(budgetOptions(byDefault));

/** Options of {@link uniform}; the README's table says what each does. */
export type UniformOptions = OptionsOf<typeof options.schema>;

/**
 * Keeps tokens spread evenly over both sides of the grid, whatever the image shows: the floor that any method
 * must beat. Throws `GridRequiredError` when it plans for tokens without a grid.
 * @throws InvalidArgumentError on a budget out of its range
 * @example
 * uniform({ keepCount: 64 });
 */
export function uniform(given: UniformOptions = {}): TokenReducer {
  const budget = budgetOf(options.check(given)) ?? byDefault;
  return defineReducer({
    name: 'uniform',
    at: [atFeatures],
    requires: {},
    plan: async ({ grid, length }) => {
      if (!grid) throw new GridRequiredError('uniform', length);
      const { count, warnings } = resolveBudget(budget, length);
      const rows = uniformRows(count, grid);
      const kept = selectUniform(count, rows, grid);
      const filled = count % rows === 0 && { grid: { rows, columns: count / rows } };
      return selectionPlan(kept, length, { warnings, ...filled });
    },
  });
}

/** How `foveate` and other registries know the method. */
export const uniformEntry: ReducerEntry = reducerEntry({
  name: 'uniform',
  description: 'an even grid of tokens, whatever the image shows: a floor',
  options,
  create: uniform,
});

/**
 * How many grid rows hold the kept tokens: about as far from one another as tokens inside a row, and no more
 * tokens a row than columns.
 */
function uniformRows(count: number, { rows, columns }: Grid): number {
  const square = Math.round(Math.sqrt((count * rows) / columns));
  return Math.min(Math.max(square, Math.ceil(count / columns)), rows, count);
}

/**
 * The tokens at the middles of `keptRows` equal bands, and in each at the middles of its equal parts;
 * ascending.
 */
function selectUniform(count: number, keptRows: number, { rows, columns }: Grid): number[] {
  return middles(keptRows, rows).flatMap((row, i) => {
    const inRow = Math.floor(((i + 1) * count) / keptRows) - Math.floor((i * count) / keptRows);
    return middles(inRow, columns).map((column) => row * columns + column);
  });
}

/** floor((i + 0.5) * length / parts) for i in [0, parts). */
function middles(parts: number, length: number): number[] {
  return Array.from({ length: parts }, (_, i) => Math.floor(((i + 0.5) * length) / parts));
}
