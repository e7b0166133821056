import { describe, expect, it } from 'vitest';
import type { Question } from './dataset.js';
import type { AnswerRecord } from './results.js';
import { wilsonInterval } from './statistics.js';
import { summarizeRow, type Latency } from './summary.js';

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
    question: { id, kind, crowded, answer, question: '?', image: '/image.png' },
    record: {
      ...{ id, reducer: 'r', text, correct: text === answer, inputTokens: 10, outputTokens: tokens },
      ...{ kvBytes: 1, cached: { text: 1, visual: tokens, generated: 1 }, warnings },
    },
  };
}

const call = (ms: number, tpotMs: number | null): Latency => ({
  ...{ ttftMs: ms, visionMs: ms * 2, reduceMs: ms * 3, prefillMs: ms * 4, tpotMs, kvBytes: ms * 100 },
});

describe('summarizeRow', () => {
  it('by hand', () => {
    const answers = [
      answered('side', false, 'left', 'left', 5),
      answered('presence', false, 'yes', 'yes', 6, ['w']),
      answered('presence', false, 'no', 'yes', 4, ['w', 'v']),
      answered('presence', true, 'no', 'no', 5),
      answered('count', true, '9', '8', 5),
    ];
    const calls = [call(1, 7), call(5, null), call(3, 9)];
    expect(summarizeRow('r', answers, calls, 123)).toEqual({
      reducer: 'r',
      keep: 0.5,
      keptTokens: 5,
      questions: 5,
      accuracy: 3 / 5,
      ci95: wilsonInterval(3, 5),
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
    const row = summarizeRow('r', [answered('a', true, 'a', 'a', 1), ...answers], [call(1, 1)], null);
    expect(Object.keys(row.byKind)).toEqual(['attribute', 'side', 'zebra', 'crowded']);
    expect(row).not.toHaveProperty('pope');
  });

  it('has no time of a later token where no answer had one', () => {
    const row = summarizeRow('r', [answered('side', false, 'a', '', 1)], [call(1, null)], null);
    expect(row).toMatchObject({ tpotMs: null, peakRssBytes: null, accuracy: 0 });
  });
});
