/** Tells the differences between rows that mean something from those that chance makes. */
import type { BootstrapInterval } from './bootstrap.js';
import { holmAdjust, mcnemarExact, mean } from './statistics.js';

/** How one row's answers differ from another's, over the same questions. */
export interface Difference {
  /** This accuracy minus the other one, in [-1, 1]. */
  readonly difference: number;
  /**
   * Its 95 % interval: bootstrap over the questions, paired. 0 to 0 where both are right on the same
   * questions.
   */
  readonly ci95: readonly [lower: number, upper: number];
  /** Questions that this row alone answered rightly. */
  readonly onlyThis: number;
  /** Questions that the other row alone answered rightly. */
  readonly onlyOther: number;
  /** McNemar's exact test, two-sided. */
  readonly p: number;
  /**
   * The same by Holm's adjustment for the other tests of its column: below 0.05, the difference means
   * something.
   */
  readonly pHolm: number;
}

/**
 * By which number two rows count as equally dear: the visual tokens left at last, or those that a layer of
 * the language model reads on average, which is fair to methods inside it.
 */
export type EqualBy = 'keptTokens' | 'equivalentTokens';

/** Two rows of a table that are equally dear. */
export interface Comparison extends Difference {
  /** The full SPEC of "this" row: of the two the more accurate; of equal ones, the earlier. */
  readonly reducer: string;
  /** The full SPEC of the other one. */
  readonly other: string;
}

/** A row's answers, as far as they are compared. */
export interface ComparedRow {
  readonly reducer: string;
  readonly keptTokens: number;
  readonly equivalentTokens: number;
  /** 1 where the answer is right, 0 where it is not, in the order of the questions. */
  readonly scores: readonly number[];
}

/** Of the larger of two numbers of tokens: what both may differ by and still be called equal. */
const EQUAL_WITHIN = 0.1;

/** Every row's difference from the `baseline`, adjusted over these rows; null for the baseline itself. */
export function compareWithBaseline(
  rows: readonly ComparedRow[],
  baseline: ComparedRow,
  interval: BootstrapInterval,
): (Difference | null)[] {
  const others = rows.filter((row) => row !== baseline);
  const differences = differencesOf(
    others.map((row) => [row, baseline]),
    interval,
  );
  return rows.map((row) => (row === baseline ? null : differences[others.indexOf(row)]));
}

/**
 * Each two rows of equally many tokens (their means within a tenth), adjusted over all such pairs. At unequal
 * numbers a row trades, it does not win.
 */
export function compareEqualRows(
  rows: readonly ComparedRow[],
  equalBy: EqualBy,
  interval: BootstrapInterval,
): Comparison[] {
  const pairs = rows.flatMap((row, index) =>
    rows
      .slice(index + 1)
      .filter((other) => areEqual(row[equalBy], other[equalBy]))
      .map((other): Pair => (mean(other.scores) > mean(row.scores) ? [other, row] : [row, other])),
  );
  return differencesOf(pairs, interval).map((difference, index) => {
    const [{ reducer }, other] = pairs[index];
    return { reducer, other: other.reducer, ...difference };
  });
}

type Pair = readonly [ComparedRow, ComparedRow];

function areEqual(a: number, b: number): boolean {
  return Math.abs(a - b) <= EQUAL_WITHIN * Math.max(a, b) + 1e-9;
}

function differencesOf(pairs: readonly Pair[], interval: BootstrapInterval): Difference[] {
  const raw = pairs.map(([{ scores }, other]) => {
    const gains = scores.map((score, question) => score - other.scores[question]); // 1, 0 or -1
    const onlyThis = gains.filter((gain) => gain > 0).length;
    const onlyOther = gains.filter((gain) => gain < 0).length;
    return {
      difference: mean(gains),
      ci95: interval(gains),
      onlyThis,
      onlyOther,
      p: mcnemarExact(onlyThis, onlyOther),
    };
  });
  const adjusted = holmAdjust(raw.map(({ p }) => p));
  return raw.map((difference, index) => ({ ...difference, pHolm: adjusted[index] }));
}
