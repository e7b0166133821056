import type { Question } from '@foveate/eval';
import { describe, expect, it } from 'vitest';
import { chooseQuestions } from './choose.js';
import type { AnswersByReducer } from './run-folder.js';

const question = (id: string, kind: string, crowded = false): Question => ({
  ...{ id, kind, crowded },
  ...{ image: 'i.png', imageBytes: 1, question: 'q', answer: 'a' },
});
const questions = [
  question('1', 'count'),
  question('2', 'count'),
  question('3', 'count'),
  question('4', 'attribute'),
  question('5', 'count', true),
  question('6', 'never-asked'),
];
/** Who was right, one letter a method. */
const answersOf = (marks: Readonly<Record<string, string>>): ReadonlyMap<string, AnswersByReducer> =>
  new Map(
    Object.entries(marks).map(([id, letters]) => [
      id,
      new Map(
        Array.from(letters, (letter, method) => [
          String(method),
          { text: '', correct: letter === 'r', imageBytes: 1 },
        ]),
      ),
    ]),
  );
const answers = answersOf({ 1: 'rrrw', 2: 'rrww', 3: 'wwrr', 4: 'wwww', 5: 'rrrr' });

describe('chooseQuestions', () => {
  it('takes of each kind the question that tells most methods apart, the earlier of two', () => {
    expect(chooseQuestions(questions, answers).map(({ id }) => id)).toEqual(['4', '2', '5']);
  });

  it('takes those that were asked for, in that order, each once', () => {
    expect(chooseQuestions(questions, answers, ['5', '1', '5']).map(({ id }) => id)).toEqual(['5', '1']);
  });

  it('takes eight at most', () => {
    const many = Array.from({ length: 12 }, (_, index) => question(String(index), `kind-${index}`));
    const marks = answersOf(Object.fromEntries(many.map(({ id }) => [id, 'rw'])));
    expect(chooseQuestions(many, marks)).toHaveLength(8);
  });

  it.each(['6', '7', ''])('refuses %j, which the run did not ask', (id) => {
    expect(() => chooseQuestions(questions, answers, [id])).toThrow(
      'ids of questions that the run asked, e.g. 1,2,3',
    );
  });
});
