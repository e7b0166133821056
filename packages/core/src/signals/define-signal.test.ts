import { describe, expect, it } from 'vitest';
import { InvalidArgumentError, InvalidSignalError } from '../errors.js';
import { atFeatures, beforeLanguageLayer, beforeVisionLayer } from '../sites.js';
import { attentionGiven } from './attention-given.js';
import { attentionMap } from './attention-map.js';
import { attentionReceived } from './attention-received.js';
import { attentionShare } from './attention-share.js';
import { classAttention } from './class-attention.js';
import {
  checkSignal,
  defineSignal,
  requestAt,
  signalId,
  type Signal,
  type SignalDeclaration,
  type SignalRequest,
} from './define-signal.js';
import { features } from './features.js';
import { keys } from './keys.js';
import { projectedFeatures } from './projected-features.js';
import { promptAttention } from './prompt-attention.js';
import { textEmbeddings } from './text-embeddings.js';

const declaration: SignalDeclaration = {
  name: 'queries',
  of: 'vision-layer',
  shape: ['N', 'D'],
  range: 'real',
  carry: 'mean',
};

describe('defineSignal', () => {
  const queries = defineSignal({
    ...declaration,
    of: 'vision-layer',
    parameters: { heads: ['joined', 'mean'], scaled: ['no', 'yes'] },
  });

  it('makes requests: the declaration, the layer, every parameter', () => {
    expect(queries()).toEqual({
      signal: declaration,
      layer: 'features',
      parameters: { heads: 'joined', scaled: 'no' },
    });
    expect(queries({ layer: -2, scaled: 'yes' })).toEqual({
      signal: declaration,
      layer: -2,
      parameters: { heads: 'joined', scaled: 'yes' },
    });
    expect(queries.declaration).toEqual(declaration);
  });

  it('takes undefined for absent', () => {
    const options = { layer: undefined, heads: undefined } as unknown as { heads: 'mean' };
    expect(queries(options)).toEqual(queries());
  });

  it('has a layer where its source has layers: the features of an encoder, the one before a site of a decoder', () => {
    expect(attentionGiven().layer).toBe('features');
    expect(promptAttention().layer).toBe('before');
    for (const signal of [attentionShare, features, projectedFeatures, textEmbeddings]) {
      expect(signal()).not.toHaveProperty('layer');
    }
  });

  it('makes plain data that survives a structured clone', () => {
    const all = [
      queries(),
      attentionMap({ layer: 3 }),
      keys({ heads: 'mean' }),
      promptAttention(),
      features(),
    ];
    for (const request of all) {
      const clone = structuredClone(request);
      expect(clone).toEqual(request);
      expect(signalId(clone)).toBe(signalId(request));
    }
  });

  it('makes requests that nobody can change', () => {
    const request = attentionGiven();
    expect([request, request.signal, request.parameters].every(Object.isFrozen)).toBe(true);
  });

  it.each<[string, Signal, unknown, string]>([
    ['an option that is none', queries, { head: 'mean' }, 'one of layer, heads, scaled; received "head"'],
    ['an inherited name', queries, { toString: 'mean' }, 'option of queries must be'],
    ['an option where there are none', features, { heads: 'mean' }, 'option of features must be absent'],
    ['another value', queries, { heads: 'max' }, 'queries.heads must be joined or mean; received "max"'],
    ['null', queries, { heads: null }, 'queries.heads must be joined or mean; received null'],
    ['a layer where there is none', features, { layer: 3 }, 'features.layer must be absent'],
    ['a layer of all layers', attentionShare, { layer: 'features' }, 'attentionShare.layer must be absent'],
    [
      'half a layer',
      queries,
      { layer: 1.5 },
      "a whole number, 'features', 'before' or scaledLayer(layer, of); received 1.5",
    ],
    ['a layer in words', queries, { layer: 'last' }, 'queries.layer must be a whole number'],
    [
      'features of a language model',
      promptAttention,
      { layer: 'features' },
      "promptAttention.layer must be a whole number, 'before' or 'next'; received",
    ],
    ['text in place of options', queries, 'last', 'option of queries must be one of layer'],
  ])('refuses %s', (_, signal, options, message) => {
    const request = (): unknown => signal(options as object);
    expect(request).toThrow(InvalidArgumentError);
    expect(request).toThrow(message);
  });

  it.each<[string, Partial<SignalDeclaration>, string]>([
    ['a name that ids could not hold', { name: 'queries@2' }, 'name must be in camel case'],
    ['a mean of what has no tokens', { shape: ['L'] }, 'queries.carry must be'],
    ['a sum of what has no tokens', { shape: ['T', 'D'], carry: 'sum' }, 'received "sum of [T, D]"'],
    ['tokens behind another axis', { shape: ['H', 'N'] }, 'queries.carry must be'],
    ['tokens twice', { shape: ['N', 'N'] }, 'queries.carry must be'],
    ['keeping as it is what has tokens', { carry: 'keep' }, 'received "keep of [N, D]"'],
  ])('refuses to declare %s', (_, change, message) => {
    const define = (): unknown => defineSignal({ ...declaration, ...change });
    expect(define).toThrow(InvalidArgumentError);
    expect(define).toThrow(message);
  });

  it('lets any shape go that never follows its tokens', () => {
    expect(() => defineSignal({ ...declaration, shape: ['H', 'N', 'N'], carry: 'never' })).not.toThrow();
  });
});

describe('signalId', () => {
  it('is equal exactly where two requests mean the same', () => {
    expect(signalId(keys())).toBe(signalId(keys({ layer: 'features', heads: 'joined' })));
    const ids = [
      keys(),
      keys({ heads: 'mean' }),
      keys({ layer: -1 }),
      keys({ layer: 2 }),
      keys({ layer: 'before' }),
      classAttention(),
      classAttention({ heads: 'mean' }),
      promptAttention(),
      promptAttention({ layer: 2, rows: 'last' }),
      promptAttention({ layer: 2, rows: 'mean' }),
      promptAttention({ layer: 3, rows: 'mean' }),
      attentionShare(),
      features(),
      projectedFeatures(),
      textEmbeddings(),
    ].map(signalId);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('is short and legible', () => {
    expect(signalId(keys())).toBe('keys@features:joined');
    expect(signalId(promptAttention({ layer: 2 }))).toBe('promptAttention@2:last');
    expect(signalId(attentionGiven({ layer: -1 }))).toBe('attentionGiven@-1');
    expect(signalId(features())).toBe('features');
  });
});

describe('requestAt', () => {
  it('reads before the site: the layer below it, or the features', () => {
    const before = keys({ layer: 'before', heads: 'mean' });
    expect(requestAt(before, beforeVisionLayer(8))).toEqual(keys({ layer: 7, heads: 'mean' }));
    expect(requestAt(before, beforeVisionLayer(1))).toEqual(keys({ layer: 0, heads: 'mean' }));
    expect(requestAt(before, atFeatures)).toEqual(keys({ heads: 'mean' }));
    expect(requestAt(promptAttention(), beforeLanguageLayer(3))).toEqual(promptAttention({ layer: 2 }));
  });

  it('leaves a request alone that names its layer, or has none', () => {
    for (const request of [keys(), keys({ layer: -1 }), keys({ layer: 0 }), features(), textEmbeddings()]) {
      expect(requestAt(request, beforeLanguageLayer(2))).toBe(request);
    }
  });

  it('refuses a signal whose layers are in the other tower', () => {
    const wrong: [SignalRequest, Parameters<typeof requestAt>[1]][] = [
      [keys({ layer: 'before' }), beforeLanguageLayer(2)],
      [promptAttention(), atFeatures],
      [promptAttention(), beforeVisionLayer(2)],
    ];
    for (const [request, site] of wrong) {
      expect(() => requestAt(request, site)).toThrow(InvalidArgumentError);
    }
    expect(() => requestAt(promptAttention(), atFeatures)).toThrow(
      'promptAttention.layer must be the number of a layer at vision@features; received "before"',
    );
  });
});

describe('checkSignal', () => {
  const given = attentionGiven();
  const similarity = defineSignal({
    name: 'similarity',
    of: 'features',
    shape: ['N', 'N'],
    range: 'real',
    carry: 'never',
  })();

  it('lets good values through', () => {
    const values = Float32Array.of(0, 0.5);
    expect(checkSignal(given, values, 2)).toBe(values);
    expect(checkSignal(keys(), Float32Array.of(-1, 2, 3, -4), 2)).toHaveLength(4);
    expect(checkSignal(attentionShare(), Float32Array.of(0.3, 0.4, 0.5), 2)).toHaveLength(3);
    expect(checkSignal(textEmbeddings(), Float32Array.of(-0.3, 0.4, 0.5), 2)).toHaveLength(3);
    expect(checkSignal(similarity, Float32Array.of(1, -1, -1, 1), 2)).toHaveLength(4);
    expect(checkSignal(attentionMap(), new Float32Array(9), 2)).toHaveLength(9);
  });

  it.each<[string, SignalRequest, unknown, string]>([
    ['NaN', given, Float32Array.of(0, NaN), 'is NaN at index 1'],
    ['Infinity', keys(), Float32Array.of(Infinity, 1), 'is Infinity at index 0'],
    ['-Infinity', keys(), Float32Array.of(1, -Infinity), 'is -Infinity at index 1'],
    ['negative attention', given, Float32Array.of(0, -0.5), 'is negative (-0.5) at index 1'],
    ['a negative share', attentionShare(), Float32Array.of(-0.5), 'is negative (-0.5) at index 0'],
    ['too few', given, Float32Array.of(1), 'has 1 values, which are not [N] for N = 2 tokens'],
    ['too many', given, new Float32Array(3), 'has 3 values, which are not [N] for N = 2 tokens'],
    ['none', given, new Float32Array(0), 'has 0 values'],
    ['keys that do not divide', keys(), new Float32Array(3), 'has 3 values, which are not [N, D]'],
    ['no keys', keys(), new Float32Array(0), 'has 0 values'],
    ['no layers', attentionShare(), new Float32Array(0), 'has 0 values, which are not [L]'],
    ['pairs of other tokens', similarity, new Float32Array(6), 'has 6 values, which are not [N, N]'],
    ['another type', given, [0, 1], 'is not a Float32Array'],
    ['nothing', given, undefined, 'is not a Float32Array'],
  ])('refuses %s', (_, request, values, message) => {
    const check = (): unknown => checkSignal(request, values as Float32Array, 2);
    expect(check).toThrow(InvalidSignalError);
    expect(check).toThrow(message);
  });

  it('names the signal as the method asked for it', () => {
    const request = promptAttention({ layer: 2, rows: 'mean' });
    expect(() => checkSignal(request, Float32Array.of(NaN), 1)).toThrow(
      'Signal promptAttention@2:mean is NaN',
    );
    expect(attentionReceived.declaration.name).toBe('attentionReceived');
  });
});
