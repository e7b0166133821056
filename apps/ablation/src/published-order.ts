/** Sets the order of our rows beside the one that a paper prints of the same methods. */
import { spearman, type RankCorrelation, type SummaryRow } from '@foveate/eval';
import { EQUAL_WITHIN } from './method-rows.js';
import type { PaperTable } from './paper-tables.js';
import { parseSpec } from './spec.js';

/** Methods that both have at one budget, in our order. */
export interface SharedOrder {
  /** How many of 576 tokens a layer reads on average. */
  readonly tokens: number;
  /** At least four. */
  readonly methods: readonly SharedMethod[];
  /** Null where one side tells no method from another. */
  readonly correlation: RankCorrelation | null;
}

/** One of them. */
export interface SharedMethod {
  readonly row: SummaryRow;
  /** What the paper prints, an average over its sets: the first cell of its row. */
  readonly published: number;
}

/** From so many methods on two orders say anything. */
const FEWEST = 4;

/** At each budget that has enough methods in common, the largest first. */
export function sharedOrders(rows: readonly SummaryRow[], { rows: printed }: PaperTable): SharedOrder[] {
  const whole = rows.find(({ steps }) => steps.length === 0)?.equivalentTokens;
  if (whole === undefined) return [];
  const budgets = [...new Set(printed.flatMap(({ ranked }) => ranked?.tokens ?? []))];
  return budgets.flatMap((tokens): SharedOrder[] => {
    const methods = printed.flatMap(({ ranked, cells: [published] }): SharedMethod[] => {
      if (ranked?.tokens !== tokens || published === null) return [];
      const row = rowAt(rows, ranked.method, (tokens / 576) * whole);
      return row ? [{ row, published }] : [];
    });
    if (methods.length < FEWEST) return [];
    const ours = methods.map(({ row }) => row.accuracy);
    const theirs = methods.map(({ published }) => published);
    return [
      {
        tokens,
        methods: methods.sort((a, b) => b.row.accuracy - a.row.accuracy),
        correlation: spearman(ours, theirs),
      },
    ];
  });
}

/** The row of a method alone that reads about so many tokens a layer. */
function rowAt(rows: readonly SummaryRow[], method: string, tokens: number): SummaryRow | undefined {
  return rows.find(({ reducer, equivalentTokens }) => {
    const [{ name }, ...more] = parseSpec(reducer);
    const isNear = Math.abs(equivalentTokens - tokens) <= EQUAL_WITHIN * tokens;
    return more.length === 0 && name === method && isNear;
  });
}
