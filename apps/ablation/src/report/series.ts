/** Arranges a summary's rows for the plots: by method, and by what no other row beats. */
import type { SummaryRow } from '@foveate/eval';
import { formatSpec, parseSpec } from '../spec.js';

/** The rows of one method at its budgets. */
export interface Series {
  /** The SPEC without its budgets. */
  readonly method: string;
  readonly rows: readonly SummaryRow[];
}

const BUDGETS = ['keep', 'count', 'mass'];

/**
 * The methods in the order of their first rows.
 * @throws SpecError
 */
export function seriesOf(rows: readonly SummaryRow[]): Series[] {
  const series = new Map<string, SummaryRow[]>();
  for (const row of rows) {
    const method = methodOf(row.reducer);
    series.set(method, [...(series.get(method) ?? []), row]);
  }
  return [...series].map(([method, ofMethod]) => ({ method, rows: ofMethod }));
}

function methodOf(spec: string): string {
  const steps = parseSpec(spec).map(({ name, options }) => ({
    name,
    options: Object.fromEntries(Object.entries(options).filter(([option]) => !BUDGETS.includes(option))),
  }));
  return formatSpec(steps);
}

/**
 * The Pareto front: the rows that no other row equals or beats in both cost and accuracy, unless it is the
 * same in both. By ascending cost; accuracy ascends with it.
 */
export function paretoFront(rows: readonly SummaryRow[], cost: (row: SummaryRow) => number): SummaryRow[] {
  const beats = (a: SummaryRow, b: SummaryRow): boolean =>
    cost(a) <= cost(b) && a.accuracy >= b.accuracy && (cost(a) < cost(b) || a.accuracy > b.accuracy);
  return rows.filter((row) => !rows.some((other) => beats(other, row))).sort((a, b) => cost(a) - cost(b));
}
