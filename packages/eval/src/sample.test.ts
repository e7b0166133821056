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

describe('stratifiedSample', () => {
  it('takes of each kind its share, rounded up or down', () => {
    fc.assert(
      fc.property(dataset, limit, seed, (questions, n, s) => {
        const drawn = stratifiedSample(questions, n, s);
        for (const stratum of new Set(questions.map(stratumOf))) {
          const share = (count(questions, stratum) / questions.length) * drawn.length;
          expect(Math.abs(count(drawn, stratum) - share)).toBeLessThan(1);
        }
      }),
    );
  });

  it('draws that many different questions, all where the limit is 0 or above their number', () => {
    fc.assert(
      fc.property(dataset, limit, seed, (questions, n, s) => {
        const drawn = stratifiedSample(questions, n, s);
        expect(new Set(drawn).size).toBe(drawn.length);
        expect(drawn.length).toBe(n === 0 ? questions.length : Math.min(n, questions.length));
        for (const each of drawn) expect(questions).toContain(each);
      }),
    );
  });

  it('draws by seed and id, not by order; a smaller limit draws a beginning of a larger one', () => {
    fc.assert(
      fc.property(dataset, limit, seed, (questions, n, s) => {
        const all = stratifiedSample(questions, 0, s);
        expect(stratifiedSample([...questions].reverse(), n, s)).toEqual(all.slice(0, n || undefined));
      }),
    );
  });

  it('draws others by another seed, each question equally often', () => {
    const questions = Array.from({ length: 8 }, (_, index) => question(`q${index}`, index < 4 ? 'a' : 'b'));
    const counts = new Map<string, number>();
    const draws = 2000;
    for (let s = 0; s < draws; s++)
      for (const { id } of stratifiedSample(questions, 4, s)) counts.set(id, (counts.get(id) ?? 0) + 1);
    // Each is drawn half of the times: a binomial of 2000 has a standard deviation of 22.4; five of them are 112.
    for (const { id } of questions) expect(Math.abs((counts.get(id) ?? 0) - draws / 2)).toBeLessThan(112);
  });

  it('takes crowded scenes as a kind of their own', () => {
    const questions = [question('1', 'a'), question('2', 'a', true), question('3', 'b', true)];
    expect(questions.map(stratumOf)).toEqual(['a', 'crowded', 'crowded']);
  });

  it.each([-1, 0.5, NaN, '3'])('refuses the limit %s', (wrong) => {
    expect(() => stratifiedSample([question('1', 'a')], wrong as number, 0)).toThrow(InvalidArgumentError);
  });

  it.each([-1, 0.5, 2 ** 32, '3'])('refuses the seed %s', (wrong) => {
    expect(() => stratifiedSample([question('1', 'a')], 0, wrong as number)).toThrow(InvalidArgumentError);
  });
});
