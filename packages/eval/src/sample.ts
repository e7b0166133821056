/** Draws a part of a data set that mirrors the whole. */
import { createHash } from 'node:crypto';
import { InvalidArgumentError } from '@foveate/core';
import { CROWDED, type Question } from './dataset.js';

/** Under which name a question is reported: its kind, or `crowded` for a crowded scene's. */
export function stratumOf({ kind, crowded }: Question): string {
  return crowded ? CROWDED : kind;
}

/**
 * Draws `limit` questions so that every kind (and the crowded scenes, a kind of their own here) has the share that it has in the data set, rounded up
 * or down. The draw depends on the seed and the questions' ids alone, not on their order. A smaller limit draws the first questions of a larger one,
 * so any beginning of the result mirrors the data set too.
 * @param limit 0, or more than there are: all of them
 * @param seed another seed draws other questions; an integer in [0, 2^32)
 * @throws InvalidArgumentError
 */
export function stratifiedSample(questions: readonly Question[], limit: number, seed: number): Question[] {
  if (!(Number.isSafeInteger(limit) && limit >= 0))
    throw new InvalidArgumentError('limit', limit, 'an integer, 0 (all questions) or above');
  if (!(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32))
    throw new InvalidArgumentError('seed', seed, 'an integer in [0, 2^32)');
  const strata = stratify(questions, seed);
  const wanted = Math.min(limit || questions.length, questions.length);
  return Array.from({ length: wanted }, (_, drawn) => draw(strata, drawn, questions.length));
}

interface Stratum {
  /** How many there were. */
  readonly size: number;
  /** Those not drawn yet, in an order that the seed decides. */
  readonly questions: Question[];
}

function stratify(questions: readonly Question[], seed: number): Stratum[] {
  const order = (question: Question): string =>
    createHash('sha256').update(`${seed}:${question.id}`).digest('hex');
  const names = [...new Set(questions.map(stratumOf))].sort();
  return names.map((name) => {
    const ordered = questions
      .filter((question) => stratumOf(question) === name)
      .map((question) => ({ question, hash: order(question) }))
      .sort((a, b) => (a.hash < b.hash ? -1 : 1));
    return { size: ordered.length, questions: ordered.map(({ question }) => question) };
  });
}

/**
 * Draws the next question by the quota method of apportionment (M. L. Balinski and H. P. Young, 1975): of the strata that stay within their share,
 * rounded up, the one that has most questions for each drawn gives it.
 * @param drawn questions drawn before
 * @param total questions in all
 */
function draw(strata: readonly Stratum[], drawn: number, total: number): Question {
  const drawnOf = ({ size, questions }: Stratum): number => size - questions.length;
  const within = strata.filter((stratum) => drawnOf(stratum) * total < (drawn + 1) * stratum.size);
  const { questions } = within.reduce((best, stratum) =>
    stratum.size * (drawnOf(best) + 1) > best.size * (drawnOf(stratum) + 1) ? stratum : best,
  );
  return questions.splice(0, 1)[0];
}
