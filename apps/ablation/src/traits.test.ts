import {
  atFeatures,
  beforeLanguageLayer,
  beforeVisionLayer,
  classAttention,
  defineReducer,
  GridRequiredError,
  hiddenChange,
  identityPlan,
  keys,
  promptAttention,
  questionAttention,
  scaledLayer,
  similarityBy,
  textEmbeddings,
  type ReducerDefinition,
  type TokenReducer,
} from '@foveate/core';
import { describe, expect, it } from 'vitest';
import { registry } from './registry.js';
import { needsOf, placeOf, readsOf } from './traits.js';

const made = (definition: Partial<ReducerDefinition<TokenReducer['requires']>>): TokenReducer =>
  defineReducer({
    ...{ name: 'made', at: [atFeatures], requires: {} },
    plan: async ({ length }) => identityPlan(length),
    ...definition,
  });

describe('placeOf', () => {
  it.each([
    [[atFeatures], 'features'],
    [[beforeVisionLayer(3)], 'encoder'],
    [[beforeVisionLayer(scaledLayer(8, 24)), beforeVisionLayer(-1)], 'encoder'],
    [[beforeLanguageLayer(2)], 'language'],
    [[beforeLanguageLayer(scaledLayer(8, 32)), beforeLanguageLayer(scaledLayer(16, 32))], 'language'],
    [[atFeatures, beforeLanguageLayer(2)], 'several'],
    [[beforeVisionLayer(3), atFeatures], 'several'],
  ] as const)('%j: %s', (at, place) => {
    expect(placeOf(made({ at }))).toBe(place);
  });
});

describe('needsOf', () => {
  it('follows from what is required', async () => {
    expect(await needsOf(made({}))).toEqual([]);
    expect(await needsOf(made({ requires: { a: classAttention(), b: similarityBy(keys()) } }))).toEqual([
      'a class token',
    ]);
    expect(await needsOf(made({ requires: { text: textEmbeddings() } }))).toEqual(['the question']);
    const at = [beforeLanguageLayer(2)];
    expect(await needsOf(made({ at, requires: { change: hiddenChange() } }))).toEqual([]);
    expect(await needsOf(made({ at, requires: { attention: promptAttention() } }))).toEqual([
      'the text’s attention to the image',
    ]);
    expect(await needsOf(made({ at, requires: { attention: questionAttention() } }))).toEqual([
      'the question',
      'the text’s attention to the image',
    ]);
  });

  it('tries whether a grid is needed, at every stage, and lets a method that fails otherwise be', async () => {
    const at = [beforeLanguageLayer(2), beforeLanguageLayer(4)];
    const second = made({
      at,
      plan: async ({ length }, _, stage) => {
        if (stage === 1) throw new GridRequiredError('made', length);
        return identityPlan(length);
      },
    });
    expect(await needsOf(second)).toEqual(['a grid']);
    const plan = async (): Promise<never> => {
      throw new TypeError('a defect');
    };
    expect(await needsOf(made({ plan }))).toEqual([]);
  });

  it('of methods that are there', async () => {
    const needs = async (name: string): Promise<string> =>
      (await needsOf(registry.get(name).create())).join(', ');
    expect(await needs('fopru-rank')).toBe('');
    expect(await needs('fopru-row')).toBe('a grid');
    expect(await needs('pooling')).toBe('a grid');
    expect(await needs('fastervlm')).toBe('a class token');
    expect(await needs('fastv')).toBe('the text’s attention to the image');
  });
});

describe('readsOf', () => {
  it('names signals, of similarities their rows, each once', () => {
    const requires = { a: keys(), similar: similarityBy(keys()), b: classAttention({ heads: 'mean' }) };
    expect(readsOf(made({ requires }))).toEqual(['keys@features:joined', 'classAttention@features:mean']);
  });
});
