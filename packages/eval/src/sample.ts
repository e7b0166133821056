/** Draws a part of a data set that mirrors the whole. */
import { createHash } from 'node:crypto';
import { InvalidArgumentError } from '@foveate/core';
import { createBreather } from './breathe.js';
import { CROWDED, type Question } from './dataset.js';
import { Heap } from './heap.js';

/** Under which name a question is reported: its kind, or `crowded` for a crowded scene's. */
export function stratumOf({ kind, crowded }: Question): string {
  return crowded ? CROWDED : kind;
}

/**
 * Draws `limit` questions so that every kind (and the crowded scenes, a kind of their own here) has the share
 * that it has in the data set, rounded up or down. The draw depends on the seed and the questions' ids alone,
 * not on their order. A smaller limit draws the first questions of a larger one, so any beginning of the
 * result mirrors the data set too.
 * @param limit 0, or more than there are: all of them
 * @param seed another seed draws other questions; an integer in [0, 2^32)
 * @param abortSignal stops the draw, which takes seconds for a million questions
 * @throws InvalidArgumentError; the abort signal's reason
 */
export async function stratifiedSample(
  questions: readonly Question[],
  limit: number,
  seed: number,
  abortSignal?: AbortSignal,
): Promise<Question[]> {
  if (!(Number.isSafeInteger(limit) && limit >= 0))
    throw new InvalidArgumentError('limit', limit, 'an integer, 0 (all questions) or above');
  if (!(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32))
    throw new InvalidArgumentError('seed', seed, 'an integer in [0, 2^32)');
  const breathe = createBreather(abortSignal);
  const strata = await stratify(questions, seed, breathe);
  const wanted = Math.min(limit || questions.length, questions.length);
  return draw(strata, wanted, questions.length, breathe);
}

/** The questions of one name. */
interface Stratum {
  /** Its place among the names. */
  readonly index: number;
  /** In an order that the seed decides. */
  readonly questions: readonly Question[];
  /** How many of them were drawn. */
  drawn: number;
}

async function stratify(
  questions: readonly Question[],
  seed: number,
  breathe: () => Promise<void>,
): Promise<Stratum[]> {
  const hashed = new Map<string, { question: Question; hash: string }[]>();
  for (const question of questions) {
    await breathe();
    const hash = createHash('sha256').update(`${seed}:${question.id}`).digest('hex');
    const name = stratumOf(question);
    const ofName = hashed.get(name) ?? [];
    hashed.set(name, ofName);
    ofName.push({ question, hash });
  }
  const names = [...hashed].sort(([a], [b]) => (a < b ? -1 : 1));
  return names.map(([, ofName], index) => {
    const ordered = ofName.sort((a, b) => (a.hash < b.hash ? -1 : 1));
    return { index, questions: ordered.map(({ question }) => question), drawn: 0 };
  });
}

/**
 * Draws by the quota method of apportionment (M. L. Balinski and H. P. Young, 1975): of the strata that stay
 * within their share, rounded up, the one that has most questions for each drawn gives the next; of equal
 * ones, the first.
 * @param total questions in all
 */
async function draw(
  strata: readonly Stratum[],
  wanted: number,
  total: number,
  breathe: () => Promise<void>,
): Promise<Question[]> {
  const within = new Heap<Stratum>((a, b) => {
    const [ofA, ofB] = [a.questions.length * (b.drawn + 1), b.questions.length * (a.drawn + 1)];
    return ofA > ofB || (ofA === ofB && a.index < b.index);
  });
  for (const stratum of strata) within.push(stratum);
  // When the others may give again: a stratum that gave k of its n questions stays within its share from draw
  // floor(k * total / n) on.
  const returning = new Map<number, Stratum[]>();
  const drawn: Question[] = [];
  while (drawn.length < wanted) {
    await breathe();
    for (const stratum of returning.get(drawn.length) ?? []) within.push(stratum);
    returning.delete(drawn.length);
    const stratum = within.pop();
    if (!stratum) break; // never: shares add up to all draws
    drawn.push(stratum.questions[stratum.drawn++]);
    const next = Math.max(drawn.length, Math.floor((stratum.drawn * total) / stratum.questions.length));
    const together = returning.get(next) ?? [];
    returning.set(next, together);
    together.push(stratum);
  }
  return drawn;
}
