import { describe, expect, it } from 'vitest';
import type { Question } from './dataset.js';
import type { AnswerRecord } from './results.js';
import { summarizeRows, type Latency, type SummaryRow } from './summary.js';

/** A question and the answer to it, `tokens` of 10 visual tokens kept. */
function answered(
  kind: string,
  crowded: boolean,
  answer: string,
  text: string,
  tokens: number,
  warnings: string[] = [],
): { question: Question; record: AnswerRecord } {
  const id = `${kind} ${tokens}`;
  return {
    question: { id, kind, crowded, answer, question: '?', image: '/image.png', imageBytes: 1 },
    record: {
      ...{
        id,
        reducer: 'r',
        text,
        correct: text === answer,
        imageBytes: 1,
        inputTokens: 10,
        outputTokens: tokens,
      },
      ...{ stepTokens: [8, tokens], equivalentTokens: tokens + 1 },
      ...{ kvBytes: 1, cached: { text: 1, visual: tokens, generated: 1 }, warnings },
    },
  };
}

const call = (ms: number, tpotMs: number | null): Latency => ({
  ...{ ttftMs: ms, visionMs: ms * 2, reduceMs: ms * 3, prefillMs: ms * 4, tpotMs, kvBytes: ms * 100 },
});

type Answers = ReturnType<typeof answered>[];
const RESAMPLES = 200;

/** The one row of a table. */
function summarizeRow(answers: Answers, calls: Latency[], peakRssBytes: number | null): SummaryRow {
  const result = { reducer: 'r', steps: ['first', 'second'], answered: answers, calls, peakRssBytes };
  return summarizeRows([result], 0, RESAMPLES).rows[0];
}

describe('a row', () => {
  it('by hand', () => {
    const answers = [
      answered('side', false, 'left', 'left', 5),
      answered('presence', false, 'yes', 'yes', 6, ['w']),
      answered('presence', false, 'no', 'yes', 4, ['w', 'v']),
      answered('presence', true, 'no', 'no', 5),
      answered('count', true, '9', '8', 5),
    ];
    const calls = [call(1, 7), call(5, null), call(3, 9)];
    expect(summarizeRow(answers, calls, 123)).toEqual({
      reducer: 'r',
      keep: 0.5,
      keptTokens: 5,
      steps: [
        { reducer: 'first', keptTokens: 8 },
        { reducer: 'second', keptTokens: 5 },
      ],
      equivalentTokens: 6,
      questions: 5,
      accuracy: 3 / 5,
      // presence is one right and one wrong, crowded too, side one right: 1, 2, 3, 4 or 5 right in each 16
      // draws as often as (1 + x)^4 says
      ci95: [1 / 5, 1],
      againstNone: null,
      ordinary: { n: 3, accuracy: 2 / 3 },
      byKind: {
        presence: { n: 2, accuracy: 1 / 2 },
        side: { n: 1, accuracy: 1 },
        crowded: { n: 2, accuracy: 1 / 2 },
      },
      pope: { n: 2, accuracy: 1 / 2, precision: 1 / 2, recall: 1, f1: (2 * 0.5) / 1.5, yesRatio: 1 },
      ttftMs: 3,
      visionMs: 6,
      reduceMs: 9,
      prefillMs: 12,
      tpotMs: 8,
      kvBytes: 300,
      peakRssBytes: 123,
      warnings: ['w', 'v'],
    });
  });

  it('names kinds in alphabetical order, crowded scenes last', () => {
    const answers = ['side', 'zebra', 'attribute'].map((kind) => answered(kind, false, 'a', 'a', 1));
    const row = summarizeRow([answered('a', true, 'a', 'a', 1), ...answers], [call(1, 1)], null);
    expect(Object.keys(row.byKind)).toEqual(['attribute', 'side', 'zebra', 'crowded']);
    expect(row).not.toHaveProperty('pope');
  });

  it('has no time of a later token where no answer had one', () => {
    const row = summarizeRow([answered('side', false, 'a', '', 1)], [call(1, null)], null);
    expect(row).toMatchObject({ tpotMs: null, peakRssBytes: null, accuracy: 0 });
  });
});

describe('a table', () => {
  const calls = [call(1, 1)];
  /** A row that is right on the first `right` of ten questions. */
  const row = (
    reducer: string,
    right: number,
    tokens: number,
  ): Parameters<typeof summarizeRows>[0][number] => ({
    ...{ reducer, steps: reducer === 'none' ? [] : [reducer], calls, peakRssBytes: null },
    answered: Array.from({ length: 10 }, (_, index) =>
      answered('side', false, 'left', index < right ? 'left' : '', tokens),
    ),
  });

  it('compares each row with none, and rows of equally many tokens with each other', () => {
    const { rows, comparisons } = summarizeRows(
      [row('none', 10, 10), row('a', 4, 5), row('b', 9, 5), row('c', 4, 4)],
      0,
      RESAMPLES,
    );
    expect(rows[0]).toMatchObject({ againstNone: null, ci95: [expect.closeTo(0.7225, 4), 1], steps: [] });
    expect(rows[1].againstNone).toMatchObject({
      ...{ difference: -0.6, onlyThis: 0, onlyOther: 6, p: expect.closeTo(2 / 64, 12) as number },
    });
    expect(rows[1].againstNone?.pHolm).toBeCloseTo(6 / 64, 12); // of three tests the smallest
    expect(rows[2].againstNone).toMatchObject({ difference: -0.1, onlyOther: 1, p: 1, pHolm: 1 });
    expect(comparisons).toHaveLength(1);
    expect(comparisons[0]).toMatchObject({ reducer: 'b', other: 'a', difference: 0.5, onlyThis: 5 });
    expect(comparisons[0].p).toBeCloseTo(2 / 32, 12);
    expect(comparisons[0].pHolm).toBe(comparisons[0].p);
  });

  it('compares rows whose layers read equally many tokens, where these count', () => {
    // Each layer reads one token more than are kept here: 10 and 9 are within a tenth, 9 and 8 are not.
    const rows = [row('a', 4, 9), row('b', 9, 8), row('c', 4, 7)];
    const pairs = (equalBy: 'keptTokens' | 'equivalentTokens'): string[] =>
      summarizeRows(rows, 0, RESAMPLES, equalBy).comparisons.map(({ reducer, other }) => reducer + other);
    expect(pairs('equivalentTokens')).toEqual(['ba']);
    expect(pairs('keptTokens')).toEqual([]);
  });

  it('has the spread of a draw over its seeds', () => {
    const [first, second, third] = [5, 3, 10].map((right) => row('random', right, 5));
    const otherDraws = [second.answered, third.answered];
    const { rows, comparisons } = summarizeRows([{ ...first, otherDraws }, row('a', 4, 5)], 0, RESAMPLES);
    expect(rows.map(({ accuracy, draws }) => [accuracy, draws])).toEqual([
      [0.5, { n: 3, lowest: 0.3, mean: expect.closeTo(0.6, 12) as number, highest: 1 }],
      [0.4, undefined],
    ]);
    expect(comparisons).toHaveLength(1); // of the first seed alone
  });

  it('has no difference from none where there is no such row', () => {
    const { rows } = summarizeRows([row('a', 4, 5), row('b', 9, 5)], 0, RESAMPLES);
    expect(rows.map(({ againstNone }) => againstNone)).toEqual([null, null]);
  });
});
