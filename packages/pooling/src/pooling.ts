import {
  atFeatures,
  choiceOption,
  defineOptions,
  defineReducer,
  GridRequiredError,
  maxPlan,
  mergePlan,
  type Grid,
  type OptionsOf,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';

const options = defineOptions({
  window: choiceOption(
    ['2x2', '1x4'],
    'rows x columns of tokens that become one; fewer at the end of a grid that they do not divide',
  ),
  mode: choiceOption(['mean', 'max'], 'mean of the window, or the greatest value of each channel'),
});

/** Options of {@link pooling}; the README's table says what each does. */
export type PoolingOptions = OptionsOf<typeof options.schema>;

const windows: Readonly<Record<'2x2' | '1x4', Grid>> = {
  '2x2': { rows: 2, columns: 2 },
  '1x4': { rows: 1, columns: 4 },
};

/**
 * Pools neighbouring tokens of the grid; at the grid's end a window that does not fit holds fewer. Keeps a
 * quarter of the tokens where windows fit, so it takes no budget (FoPru's ablation "w/o significance").
 * Throws `GridRequiredError` when it plans for tokens without a grid.
 * @throws InvalidArgumentError on an option that is none of its values
 * @example
 * pooling({ window: '2x2', mode: 'mean' });
 */
export function pooling(given: PoolingOptions = {}): TokenReducer {
  const { window, mode } = options.check(given);
  return defineReducer({
    name: 'pooling',
    at: [atFeatures],
    requires: {},
    plan: async ({ grid, length }) => {
      if (!grid) throw new GridRequiredError('pooling', length);
      const pooled = {
        rows: Math.ceil(grid.rows / windows[window].rows),
        columns: Math.ceil(grid.columns / windows[window].columns),
      };
      const groups = windowTokens(grid, windows[window], pooled);
      if (mode === 'max') return maxPlan(groups, length, { grid: pooled });
      const outputs = groups.map((sources) => ({ sources, weights: sources.map(() => 1 / sources.length) }));
      return mergePlan(outputs, length, { grid: pooled });
    },
  });
}

/** How `foveate` and other registries know the method. */
export const poolingEntry: ReducerEntry = reducerEntry({
  name: 'pooling',
  description: 'the mean or maximum of each four neighbours; keeps 25 %, takes no budget',
  options,
  create: pooling,
});

/** The tokens of each window, windows in row-major order. */
function windowTokens(grid: Grid, window: Grid, pooled: Grid): number[][] {
  const groups = Array.from({ length: pooled.rows * pooled.columns }, (): number[] => []);
  for (let row = 0; row < grid.rows; row++) {
    for (let column = 0; column < grid.columns; column++) {
      const group = Math.floor(row / window.rows) * pooled.columns + Math.floor(column / window.columns);
      groups[group].push(row * grid.columns + column);
    }
  }
  return groups;
}
