import { describe, expect, it } from 'vitest';
import { isCorrect, popeScores } from './metrics.js';

describe('isCorrect', () => {
  it.each([
    ['presence', 'yes', ' Yes\n', true],
    ['presence', 'yes', 'yes.', false], // POPE's rule is exact
    ['presence', 'no', 'not', false],
    ['number', '472', '472', true],
    ['number', '472', '4721', false],
    ['number', '72', '472', false],
    ['attribute', 'Red', 'red', true],
    ['choice', 'B', 'B', true],
    ['choice', 'B', ' B ', true],
    ['choice', 'B', 'B. red star', true],
    ['choice', 'B', 'b', false],
    ['choice', 'B', 'B red star', false],
    ['choice', 'B', 'A. B', false],
    ['choice', 'B', '', false],
  ])('%s, %j answered with %j: %s', (kind, answer, text, right) => {
    expect(isCorrect({ kind, answer }, text)).toBe(right);
  });
});

describe('popeScores', () => {
  it('by hand', () => {
    const answered = [
      ['yes', 'yes'],
      ['yes', 'Yes'],
      ['yes', 'no'],
      ['no', 'yes'],
      ['no', 'no'],
      ['no', 'maybe'], // wrong, and no "yes"
      ['yes', ''],
      ['no', 'no'],
    ].map(([answer, text]) => ({ answer, text }));
    // Right: 2 yes + 2 no of 8. "yes" said 3 times, 2 of them rightly; 4 questions are yes.
    expect(popeScores(answered)).toEqual({
      n: 8,
      accuracy: 4 / 8,
      precision: 2 / 3,
      recall: 2 / 4,
      f1: (2 * (2 / 3) * (1 / 2)) / (2 / 3 + 1 / 2),
      yesRatio: 3 / 8,
    });
  });

  it('is 0 where nobody says yes', () => {
    expect(popeScores([{ answer: 'yes', text: 'no' }])).toEqual({
      ...{ n: 1, accuracy: 0, precision: 0, recall: 0, f1: 0, yesRatio: 0 },
    });
  });
});
