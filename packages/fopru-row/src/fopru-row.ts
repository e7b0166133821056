import {
  checkChoice,
  checkScoreBudget,
  defineReducer,
  GridRequiredError,
  resolveBudget,
  resolveScoreBudget,
  selectionPlan,
  topIndices,
  type Grid,
  type ResolvedBudget,
  type ScoreBudget,
  type VisionReducer,
} from '@foveate/core';
import { readSignificance, significanceSignals, type SignificanceRule } from '@foveate/fopru-significance';

/** Options of {@link createFopruRow}. */
export interface FopruRowOptions {
  /**
   * How much to keep, at least one row: `{ keepRatio }` in (0, 1], floor(rows * keepRatio) rows; `{ keepCount }`, floor(keepCount / columns) rows; or
   * `{ attentionMass }`, the fewest rows that hold that share of the significance. Default `{ keepRatio: 0.25 }`.
   */
  readonly budget?: ScoreBudget;
  /** Which marginal of the attention is the significance: see `@foveate/fopru-significance`. Default `'variance'`, the paper's. */
  readonly significance?: SignificanceRule;
  /** Whether kept rows stand in their original order; false: by descending significance, left to right inside. Default true. */
  readonly reorder?: boolean;
}

/** What holds where an option is absent. */
export const fopruRowDefaults: Required<FopruRowOptions> = {
  budget: { keepRatio: 0.25 },
  significance: 'variance',
  reorder: true,
};

/**
 * FoPru, row-based (arXiv 2411.14164, section 3): keeps all tokens of the grid rows whose significance sums highest, ties to the
 * upper row. Throws `GridRequiredError` when it plans for tokens without a grid.
 * @throws InvalidArgumentError on an option out of its range
 */
export function createFopruRow(options: FopruRowOptions = {}): VisionReducer {
  const { budget, significance, reorder } = { ...fopruRowDefaults, ...options };
  checkScoreBudget(budget);
  checkChoice('reorder', reorder, [true, false]);
  return defineReducer<VisionReducer>({
    specificationVersion: 1,
    name: 'fopru-row',
    stage: 'vision',
    requires: significanceSignals(significance),
    plan: async (tokens) => {
      const { grid, length } = tokens;
      if (!grid) throw new GridRequiredError('fopru-row', length);
      const scores = sumRows(await readSignificance(tokens, significance), grid);
      const { count, warnings } = rowsToKeep(budget, grid, scores);
      const kept = topIndices(scores, count);
      const rows = Array.from(reorder ? kept.sort() : kept);
      return selectionPlan(
        rows.flatMap((row) => rowTokens(row, grid)),
        length,
        { warnings, ...(reorder && { grid: { rows: count, columns: grid.columns } }) },
      );
    },
  });
}

/** @param scores [rows] */
function rowsToKeep(budget: ScoreBudget, { rows, columns }: Grid, scores: Float64Array): ResolvedBudget {
  if (!('keepCount' in budget)) return resolveScoreBudget(budget, scores);
  const { count, warnings } = resolveBudget(budget, rows * columns);
  return { count: Math.max(1, Math.floor(count / columns)), warnings };
}

/** values [rows * columns] -> [rows] */
function sumRows(values: Float32Array, { rows, columns }: Grid): Float64Array {
  return Float64Array.from({ length: rows }, (_, row) =>
    values.subarray(row * columns, (row + 1) * columns).reduce((sum, value) => sum + value, 0),
  );
}

function rowTokens(row: number, { columns }: Grid): number[] {
  return Array.from({ length: columns }, (_, column) => row * columns + column);
}
