import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from './errors.js';
import {
  atFeatures,
  beforeLanguageLayer,
  beforeVisionLayer,
  checkSite,
  insideVisionLayers,
  layerInTower,
  scaledLayer,
  siteId,
  siteMadeFor,
  type Site,
} from './sites.js';

const sites = [
  atFeatures,
  beforeVisionLayer(1),
  beforeVisionLayer(-1),
  beforeVisionLayer(2),
  beforeLanguageLayer(1),
  beforeLanguageLayer(-1),
  beforeLanguageLayer(2),
  beforeLanguageLayer(scaledLayer(2, 32)),
  insideVisionLayers,
];

it('a site is its tower and its layer', () => {
  expect(atFeatures).toEqual({ tower: 'vision', layer: 'features' });
  expect(beforeVisionLayer(8)).toEqual({ tower: 'vision', layer: 8 });
  expect(beforeLanguageLayer(-2)).toEqual({ tower: 'language', layer: -2 });
});

it('siteId tells sites apart', () => {
  expect(siteId(atFeatures)).toBe('vision@features');
  expect(siteId(beforeLanguageLayer(2))).toBe('language@2');
  expect(new Set(sites.map(siteId)).size).toBe(sites.length);
  expect(siteId(structuredClone(atFeatures))).toBe(siteId(atFeatures));
});

it('inside every layer: planned for one after the other, from layer 0 on', () => {
  expect(siteId(insideVisionLayers)).toBe('vision@within-every');
  expect(siteMadeFor(insideVisionLayers)).toEqual({ tower: 'vision', layer: 0, within: true });
  expect(siteId({ tower: 'vision', layer: 2, within: true })).not.toBe(siteId(beforeVisionLayer(2)));
  expect(checkSite('at[0]', insideVisionLayers)).toBe(insideVisionLayers);
  for (const wrong of [
    { tower: 'language', layer: 'every', within: true },
    { tower: 'vision', layer: 'every' },
    { tower: 'vision', layer: 3, within: true },
    { tower: 'vision', layer: 'features', within: true },
  ])
    expect(() => checkSite('at[0]', wrong as never)).toThrow(InvalidArgumentError);
});

describe('a layer that scales', () => {
  it('is as far on the way in a shallower model', () => {
    expect([6, 24, 32].map((count) => layerInTower(scaledLayer(8, 32), count, 'language'))).toEqual([
      2, 6, 8,
    ]);
  });

  it('stays where it is in a deeper language model, not in a deeper encoder', () => {
    expect(layerInTower(scaledLayer(8, 32), 40, 'language')).toBe(8);
    expect(layerInTower(scaledLayer(8, 24), 27, 'vision')).toBe(9);
  });

  it('is not one that counts from an end', () => {
    expect(layerInTower(3, 6, 'language')).toBe(3);
    expect(layerInTower(-1, 6, 'vision')).toBe(5);
    for (const [layer, of] of [
      [-1, 32],
      [32, 32],
      [1.5, 32],
      [0, 0],
    ]) {
      expect(() => scaledLayer(layer, of)).toThrow(InvalidArgumentError);
    }
  });

  it('is itself in the model that it was made for', () => {
    expect(siteMadeFor(beforeLanguageLayer(scaledLayer(8, 32)))).toEqual(beforeLanguageLayer(8));
  });
});

describe('checkSite', () => {
  it.each(sites.map((site) => [siteId(site), site] as const))('lets %s through', (_, site) => {
    expect(checkSite('at[0]', site)).toBe(site);
  });

  it.each([
    { tower: 'vision', layer: 0 },
    { tower: 'vision', layer: 1.5 },
    { tower: 'vision', layer: NaN },
    { tower: 'vision', layer: '2' },
    { tower: 'vision', layer: 'last' },
    { tower: 'vision' },
    { tower: 'language', layer: 'features' },
    { tower: 'language', layer: 0 },
    { tower: 'language', layer: { layer: 0, of: 32 } },
    { tower: 'language', layer: { layer: 32, of: 32 } },
    { tower: 'language', layer: {} },
    { tower: 'language', layer: null },
    { tower: 'language', layer: 2 ** 60 },
    { tower: 'audio', layer: 2 },
    { layer: 2 },
    'vision',
    null,
    undefined,
  ])('refuses %j', (site) => {
    const check = (): unknown => checkSite('at[1]', site as Site);
    expect(check).toThrow(InvalidArgumentError);
    expect(check).toThrow('at[1] must be');
  });
});
