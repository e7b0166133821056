/** Chooses the questions that the report shows. */
import { InvalidArgumentError } from '@foveate/core';
import { stratumOf, type Question } from '@foveate/eval';
import type { AnswersByReducer } from './run-folder.js';

/** Without a choice by the user: one question of each kind, of at most so many kinds. */
const MOST_KINDS = 8;

/**
 * The questions with these ids, in that order; without ids of each kind the one that tells most of the
 * methods apart: as many right as wrong. Ties go to the earlier question.
 * @param questions of the data set, of which the run may have asked a part
 * @throws InvalidArgumentError on an id that the run did not ask
 */
export function chooseQuestions(
  questions: readonly Question[],
  answers: ReadonlyMap<string, AnswersByReducer>,
  ids?: readonly string[],
): Question[] {
  const asked = questions.filter(({ id }) => answers.has(id));
  if (ids) return [...new Set(ids)].map((id) => findQuestion(asked, id));
  const telling = new Map<string, { question: Question; score: number }>();
  for (const question of asked) {
    const score = disagreement(answers.get(question.id));
    const kind = stratumOf(question);
    const best = telling.get(kind);
    if (!best || score > best.score) telling.set(kind, { question, score });
  }
  const kinds = [...telling.keys()].sort();
  return kinds.slice(0, MOST_KINDS).flatMap((kind) => telling.get(kind)?.question ?? []);
}

function findQuestion(asked: readonly Question[], id: string): Question {
  const question = asked.find((candidate) => candidate.id === id);
  if (question) return question;
  const some = asked.slice(0, 3).map((candidate) => candidate.id);
  throw new InvalidArgumentError(
    '--questions',
    id,
    `ids of questions that the run asked, e.g. ${some.join(',')}`,
  );
}

/** The number of pairs of methods of which one was right and the other wrong. */
function disagreement(answers: AnswersByReducer = new Map()): number {
  const right = [...answers.values()].filter(({ correct }) => correct).length;
  return right * (answers.size - right);
}
