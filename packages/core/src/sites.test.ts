import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from './errors.js';
import { atFeatures, beforeLanguageLayer, beforeVisionLayer, checkSite, siteId, type Site } from './sites.js';

const sites = [
  atFeatures,
  beforeVisionLayer(1),
  beforeVisionLayer(-1),
  beforeVisionLayer(2),
  beforeLanguageLayer(1),
  beforeLanguageLayer(-1),
  beforeLanguageLayer(2),
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
