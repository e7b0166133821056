import {
  checkChoice,
  defineReducer,
  GridRequiredError,
  maxPlan,
  mergePlan,
  type Grid,
  type VisionReducer,
} from '@foveate/core';

/** Options of {@link createPooling}. */
export interface PoolingOptions {
  /** Rows x columns of tokens that become one: `'2x2'`, or `'1x4'` along a row; fewer at the end of a grid that they do not divide. Default `'2x2'`. */
  readonly window?: '2x2' | '1x4';
  /** `'mean'` of the window's tokens, or `'max'`: the greatest value of each channel. Default `'mean'`. */
  readonly mode?: 'mean' | 'max';
}

/** What holds where an option is absent. */
export const poolingDefaults: Required<PoolingOptions> = { window: '2x2', mode: 'mean' };

const windows: Record<Required<PoolingOptions>['window'], Grid> = {
  '2x2': { rows: 2, columns: 2 },
  '1x4': { rows: 1, columns: 4 },
};

/**
 * Pools neighbouring tokens of the grid; at the grid's end a window that does not fit holds fewer. Keeps a quarter of the tokens where windows fit,
 * so it takes no budget (FoPru's ablation "w/o significance"). Throws `GridRequiredError` when it plans for tokens without a grid.
 * @throws InvalidArgumentError on an option that is none of its values
 */
export function createPooling(options: PoolingOptions = {}): VisionReducer {
  const { window, mode } = { ...poolingDefaults, ...options };
  checkChoice('window', window, ['2x2', '1x4']);
  checkChoice('mode', mode, ['mean', 'max']);
  return defineReducer<VisionReducer>({
    specificationVersion: 1,
    name: 'pooling',
    stage: 'vision',
    requires: [],
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
