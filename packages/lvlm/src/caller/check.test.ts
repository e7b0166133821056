/** What a bundle's graphs allow is told without opening them, and is what a call would throw. */
import { atFeatures, beforeLanguageLayer, classAttention, defineReducer, identityPlan } from '@foveate/core';
import { fastervlm } from '@foveate/fastervlm';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { pooling } from '@foveate/pooling';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CACHE } from '../../test/bundles.js';
import { familyBundle, familyPicture } from '../../test/families.js';
import { DisposedError, Lvlm } from '../index.js';

describe('check', () => {
  let model: Lvlm;
  beforeAll(async () => {
    model = await Lvlm.load(familyBundle('llava'), { cacheDirectory: CACHE });
  });
  afterAll(() => model.dispose());

  it('passes what runs', async () => {
    for (const reducers of [
      [],
      [fopruRank()],
      [pooling()],
      [fastv({ layer: 1 })],
      [fopruRank(), fastv({ layer: 1 })],
    ])
      await expect(model.check(reducers)).resolves.toBeUndefined();
  });

  it('throws what a call throws', async () => {
    const plan = async ({ length }: { length: number }) => identityPlan(length);
    const chains = [
      [fastervlm()], // SigLIP has no class token
      [fastv({ layer: 99 })],
      [fastv({ layer: 1 }), fopruRank()],
      [
        defineReducer({
          name: 'early',
          at: [atFeatures],
          requires: { cls: classAttention({ layer: 0 }) },
          plan,
        }),
      ],
      [defineReducer({ name: 'deep', at: [beforeLanguageLayer(1)], requires: {}, plan }), pooling()],
    ];
    for (const reducers of chains) {
      const told = await model.check(reducers).catch((error: unknown) => error);
      const images = [familyPicture([1, 56, 56])];
      const thrown = await model.generate({ images, prompt: 'x', reducers }).catch((error: unknown) => error);
      expect(told).toBeInstanceOf(Error);
      expect(told).toEqual(thrown);
    }
  });

  it('takes no model that is gone', async () => {
    const gone = await Lvlm.load(familyBundle('llava'), { cacheDirectory: CACHE });
    await gone.dispose();
    await expect(gone.check([])).rejects.toThrow(DisposedError);
  });
});
