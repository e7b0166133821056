import { createHash } from 'node:crypto';
import { InvalidArgumentError } from '@foveate/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Question } from './dataset.js';
import { stratifiedSample, stratumOf } from './sample.js';

const question = (id: string, kind: string, crowded = false): Question => ({
  ...{ id, kind, crowded },
  ...{ image: '/image.png', imageBytes: 1, question: 'What?', answer: 'it' },
});

const dataset = fc
  .array(fc.tuple(fc.constantFrom('a', 'b', 'c', 'd'), fc.boolean()), { minLength: 1, maxLength: 60 })
  .map((kinds) => kinds.map(([kind, crowded], index) => question(`q${index}`, kind, crowded)));
const limit = fc.integer({ min: 0, max: 70 });
const seed = fc.integer({ min: 0, max: 2 ** 32 - 1 });

const count = (questions: readonly Question[], stratum: string): number =>
  questions.filter((each) => stratumOf(each) === stratum).length;

const manyKinds = fc
  .array(fc.tuple(fc.nat({ max: 15 }), fc.boolean()), { minLength: 1, maxLength: 60 })
  .map((kinds) => kinds.map(([kind, crowded], index) => question(`q${index}`, `k${kind}`, crowded)));

/** Every stratum looked at for every draw. */
function plainSample(questions: readonly Question[], n: number, s: number): Question[] {
  const order = ({ id }: Question): string => createHash('sha256').update(`${s}:${id}`).digest('hex');
  const names = [...new Set(questions.map(stratumOf))].sort();
  const strata = names.map((name) => {
    const left = questions
      .filter((each) => stratumOf(each) === name)
      .sort((a, b) => (order(a) < order(b) ? -1 : 1));
    return { size: left.length, left };
  });
  const givenBy = ({ size, left }: (typeof strata)[number]): number => size - left.length;
  const drawn: Question[] = [];
  while (drawn.length < Math.min(n || questions.length, questions.length)) {
    const within = strata.filter((each) => givenBy(each) * questions.length < (drawn.length + 1) * each.size);
    const { left } = within.reduce((best, each) =>
      each.size * (givenBy(best) + 1) > best.size * (givenBy(each) + 1) ? each : best,
    );
    drawn.push(...left.splice(0, 1));
  }
  return drawn;
}

describe('stratifiedSample', () => {
  it('takes of each kind its share, rounded up or down', async () => {
    await fc.assert(
      fc.asyncProperty(dataset, limit, seed, async (questions, n, s) => {
        const drawn = await stratifiedSample(questions, n, s);
        for (const stratum of new Set(questions.map(stratumOf))) {
          const share = (count(questions, stratum) / questions.length) * drawn.length;
          expect(Math.abs(count(drawn, stratum) - share)).toBeLessThan(1);
        }
      }),
    );
  });

  it('draws that many different questions, all where the limit is 0 or above their number', async () => {
    await fc.assert(
      fc.asyncProperty(dataset, limit, seed, async (questions, n, s) => {
        const drawn = await stratifiedSample(questions, n, s);
        expect(new Set(drawn).size).toBe(drawn.length);
        expect(drawn.length).toBe(n === 0 ? questions.length : Math.min(n, questions.length));
        for (const each of drawn) expect(questions).toContain(each);
      }),
    );
  });

  it('draws by seed and id, not by order; a smaller limit draws a beginning of a larger one', async () => {
    await fc.assert(
      fc.asyncProperty(dataset, limit, seed, async (questions, n, s) => {
        const all = await stratifiedSample(questions, 0, s);
        expect(await stratifiedSample([...questions].reverse(), n, s)).toEqual(all.slice(0, n || undefined));
      }),
    );
  });

  it('draws others by another seed, each question equally often', async () => {
    const questions = Array.from({ length: 8 }, (_, index) => question(`q${index}`, index < 4 ? 'a' : 'b'));
    const counts = new Map<string, number>();
    const draws = 2000;
    for (let s = 0; s < draws; s++)
      for (const { id } of await stratifiedSample(questions, 4, s)) counts.set(id, (counts.get(id) ?? 0) + 1);
    // Each is drawn half of the times: a binomial of 2000 has a standard deviation of 22.4; five of them
    // are 112.
    for (const { id } of questions) expect(Math.abs((counts.get(id) ?? 0) - draws / 2)).toBeLessThan(112);
  });

  it('draws what the quota method draws when it is written down plainly', async () => {
    await fc.assert(
      fc.asyncProperty(manyKinds, limit, seed, async (questions, n, s) => {
        expect(await stratifiedSample(questions, n, s)).toEqual(plainSample(questions, n, s));
      }),
    );
  });

  it('draws all of 100,000 questions, each of a kind of its own', async () => {
    const questions = Array.from({ length: 100_000 }, (_, index) => question(`q${index}`, `k${index}`));
    const drawn = await stratifiedSample(questions, 0, 1);
    expect(drawn.map(({ kind }) => kind)).toEqual(questions.map(({ kind }) => kind).sort());
  });

  it('can be stopped while it draws', async () => {
    const questions = Array.from({ length: 300_000 }, (_, index) => question(`q${index}`, 'a'));
    const controller = new AbortController();
    setImmediate(() => {
      controller.abort(new Error('enough'));
    });
    await expect(stratifiedSample(questions, 0, 1, controller.signal)).rejects.toThrow('enough');
  });

  it('takes crowded scenes as a kind of their own', () => {
    const questions = [question('1', 'a'), question('2', 'a', true), question('3', 'b', true)];
    expect(questions.map(stratumOf)).toEqual(['a', 'crowded', 'crowded']);
  });

  it.each([-1, 0.5, NaN, '3'])('refuses the limit %s', async (wrong) => {
    await expect(stratifiedSample([question('1', 'a')], wrong as number, 0)).rejects.toThrow(
      InvalidArgumentError,
    );
  });

  it.each([-1, 0.5, 2 ** 32, '3'])('refuses the seed %s', async (wrong) => {
    await expect(stratifiedSample([question('1', 'a')], 0, wrong as number)).rejects.toThrow(
      InvalidArgumentError,
    );
  });
});
