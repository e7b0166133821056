/** Draws a part of a data set that mirrors the whole. */
import { createHash } from 'node:crypto';
import { InvalidArgumentError } from '@foveate/core';
import { CROWDED, type Question } from './dataset.js';

/** Under which name a question is reported: its kind, or `crowded` for a crowded scene's. */
export function stratumOf({ kind, crowded }: Question): string {
  return crowded ? CROWDED : kind;
}

/**
 * Draws `limit` questions so that every kind (and the crowded scenes, a kind of their own here) has the share that it has in the data set, to the
 * nearest whole question. The draw depends on the seed and the questions' ids alone, not on their order. A smaller limit draws the first questions
 * of a larger one, and any beginning of the result mirrors the data set as well.
 * @param limit 0, or more than there are: all of them
 * @param seed another seed draws other questions; an integer in [0, 2^32)
 * @throws InvalidArgumentError
 */
export function stratifiedSample(questions: readonly Question[], limit: number, seed: number): Question[] {
  if (!(Number.isSafeInteger(limit) && limit >= 0))
    throw new InvalidArgumentError('limit', limit, 'an integer, 0 (all questions) or above');
  if (!(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32))
    throw new InvalidArgumentError('seed', seed, 'an integer in [0, 2^32)');
  const strata = new Map<string, { question: Question; hash: string }[]>();
  for (const question of questions) {
    const stratum = strata.get(stratumOf(question)) ?? [];
    strata.set(stratumOf(question), stratum);
    stratum.push({ question, hash: createHash('sha256').update(`${seed}:${question.id}`).digest('hex') });
  }
  // A stratum of n questions takes the places (p + 1/2) / n of the unit interval: any beginning has of each its share, rounded.
  const placed = [...strata.values()].flatMap((stratum) =>
    stratum
      .sort((a, b) => compare(a.hash, b.hash))
      .map(({ question, hash }, p) => ({ question, hash, place: (p + 0.5) / stratum.length })),
  );
  placed.sort((a, b) => a.place - b.place || compare(a.hash, b.hash));
  return placed.slice(0, limit === 0 ? undefined : limit).map(({ question }) => question);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}
