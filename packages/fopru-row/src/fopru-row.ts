import {
  atFeatures,
  choiceOption,
  defineOptions,
  defineReducer,
  GridRequiredError,
  resolveBudget,
  resolveScoreBudget,
  scoreBudgetOf,
  scoreBudgetOptions,
  selectionPlan,
  topIndices,
  type Grid,
  type OptionsOf,
  type ResolvedBudget,
  type ScoreBudget,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';
import { significance, significanceRules, significanceSignals } from '@foveate/fopru-significance';

const byDefault = { keepRatio: 0.25 };

const options = defineOptions({
  ...scoreBudgetOptions(byDefault, {
    keepRatio: 'share of the rows to keep: floor(rows * keepRatio), at least 1',
    keepCount: 'number of tokens to keep, rounded down to whole rows, at least one row',
    attentionMass: 'share of the attention that the kept rows hold: the fewest that do',
  }),
  significance: choiceOption(
    significanceRules,
    'marginal of the attention that ranks the rows; variance is the paper’s',
  ),
  order: choiceOption(
    ['original', 'score'],
    'order of the kept rows: as they stood, or by descending significance, left to right inside',
  ),
});

/** Options of {@link fopruRow}; the README's table says what each does. */
export type FopruRowOptions = OptionsOf<typeof options.schema>;

/**
 * FoPru, row-based (arXiv 2411.14164, section 3): keeps all tokens of the grid rows whose significance sums
 * highest, ties to the upper row. Throws `GridRequiredError` when it plans for tokens without a grid.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * fopruRow({ keepRatio: 0.5 });
 */
export function fopruRow(given: FopruRowOptions = {}): TokenReducer {
  const checked = options.check(given);
  const budget = scoreBudgetOf(checked) ?? byDefault;
  return defineReducer({
    name: 'fopru-row',
    at: [atFeatures],
    requires: significanceSignals(checked.significance),
    plan: async ({ length, grid, signals }) => {
      if (!grid) throw new GridRequiredError('fopru-row', length);
      const scores = sumRows(significance(signals, checked.significance), grid);
      const { count, warnings } = rowsToKeep(budget, grid, scores);
      const kept = topIndices(scores, count);
      const inOrder = checked.order === 'original';
      const rows = Array.from(inOrder ? kept.sort() : kept);
      return selectionPlan(
        rows.flatMap((row) => rowTokens(row, grid)),
        length,
        { warnings, ...(inOrder && { grid: { rows: count, columns: grid.columns } }) },
      );
    },
  });
}

/** How `foveate` and other registries know the method. */
export const fopruRowEntry: ReducerEntry = reducerEntry({
  name: 'fopru-row',
  description: 'FoPru by row: whole rows of the grid, of the highest summed significance',
  options,
  create: fopruRow,
});

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
