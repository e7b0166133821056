import { createTokens, InvalidArgumentError, planTokens } from '@foveate/core';
import { reducerConformance } from '@foveate/core/testing';
import { describe, expect, it, test } from 'vitest';
import { random, randomEntry, type RandomOptions } from './random.js';

describe('conforms', () => {
  for (const { name, run } of reducerConformance({ create: random })) test(name, run);
});

const draw = async (imageHash: string, length: number, options: RandomOptions = {}): Promise<number[]> => [
  ...(await planTokens(random(options), createTokens({ length, imageHash }))).sources,
];

describe('random', () => {
  it('draws by seed and image', async () => {
    const drawn = await draw('a', 256);
    expect(drawn).toHaveLength(64);
    expect(await draw('a', 256)).toEqual(drawn);
    expect(await draw('b', 256)).not.toEqual(drawn);
    expect(await draw('a', 256, { seed: 1 })).not.toEqual(drawn);
  });

  it('keeps of a smaller budget what it keeps of a larger one', async () => {
    const large = await draw('image', 256, { keepCount: 64 });
    const small = await draw('image', 256, { keepCount: 15 });
    expect(large).toEqual(expect.arrayContaining(small));
  });

  it('draws every token equally often', async () => {
    const images = 4000;
    const counts = new Array<number>(16).fill(0);
    for (let image = 0; image < images; image++)
      for (const token of await draw(`image ${image}`, 16)) counts[token]++;
    // 4 of 16 each time: 1000 expected. The statistic of drawing without replacement, chi-square with 15
    // degrees of freedom: above 37.7 once in a thousand seeds.
    const expected = images / 4;
    const statistic =
      counts.reduce((sum, count) => sum + (count - expected) ** 2 / (expected * 0.75), 0) * (15 / 16);
    expect(statistic).toBeLessThan(37.7);
  });

  it.each([-1, 0.5, 2 ** 32, NaN, '1'])('refuses seed %s', (seed) => {
    const make = (): unknown => random({ seed: seed as number });
    expect(make).toThrow(InvalidArgumentError);
    expect(make).toThrow('seed must be an integer from 0 to 4294967295');
  });

  it('takes the highest seed', async () => {
    expect(await draw('a', 256, { seed: 2 ** 32 - 1 })).toHaveLength(64);
  });

  it('keeps a quarter by seed 0 unless told otherwise', async () => {
    expect(randomEntry.options.map(({ name, default: value }) => [name, value])).toEqual([
      ['keep', '0.25'],
      ['count', ''],
      ['seed', '0'],
    ]);
    expect(await draw('a', 256)).toEqual(await draw('a', 256, { keepRatio: 0.25, seed: 0 }));
  });

  it('is made from text', async () => {
    const reducer = randomEntry.create({ count: '15', seed: '1' });
    expect(reducer.name).toBe(randomEntry.name);
    const plan = await planTokens(reducer, createTokens({ length: 256, imageHash: 'a' }));
    expect([...plan.sources]).toEqual(await draw('a', 256, { keepCount: 15, seed: 1 }));
  });

  it.each([{ budget: { keepCount: 3 } }, { attentionMass: 0.5 }])('refuses %j', (options) => {
    expect(() => random(options as RandomOptions)).toThrow(
      'option must be one of keepRatio, keepCount, seed',
    );
  });
});
