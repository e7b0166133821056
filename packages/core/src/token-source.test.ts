import { describe, expect, it } from 'vitest';
import { InvalidArgumentError, InvalidSignalError, SignalUnavailableError } from './errors.js';
import { attentionGiven } from './signals/attention-given.js';
import { attentionMap } from './signals/attention-map.js';
import { attentionReceived } from './signals/attention-received.js';
import { classAttention } from './signals/class-attention.js';
import { signalId, type SignalRequest } from './signals/define-signal.js';
import { features } from './signals/features.js';
import { keys } from './signals/keys.js';
import { promptAttention } from './signals/prompt-attention.js';
import { textEmbeddings } from './signals/text-embeddings.js';
import { atFeatures, beforeLanguageLayer, beforeVisionLayer } from './sites.js';
import {
  createTokens,
  similarityBy,
  readTokens,
  requestsOf,
  type TokensInit,
  type TokenSource,
} from './token-source.js';

describe('createTokens', () => {
  it('has one span and an empty hash unless told otherwise', () => {
    const { length, grid, spans, sizes, imageHash } = createTokens({ length: 3 });
    expect({ length, grid, spans, sizes, imageHash }).toEqual({
      length: 3,
      grid: undefined,
      spans: [{ start: 0, length: 3 }],
      sizes: undefined,
      imageHash: '',
    });
  });

  it('answers the signals of the layers that were given, and no others', async () => {
    const ofFeatures = Float32Array.of(0.25, 0.75);
    const last = Float32Array.of(0.5, 0.5);
    const tokens = createTokens({
      length: 2,
      signals: [
        { ...classAttention(), values: ofFeatures },
        { ...classAttention({ layer: -1 }), values: last },
      ],
    });
    expect(await tokens.signal(classAttention({ layer: 'features' }))).toBe(ofFeatures);
    expect(await tokens.signal(classAttention({ layer: -1 }))).toBe(last);
    const missing = tokens.signal(attentionGiven());
    await expect(missing).rejects.toThrow(SignalUnavailableError);
    await expect(missing).rejects.toThrow(
      'provided: classAttention@features:joined, classAttention@-1:joined',
    );
    await expect(createTokens({ length: 2 }).signal(keys())).rejects.toThrow('provided: none');
  });

  it('answers nearest from the rows that it is asked for', async () => {
    const tokens = createTokens({
      length: 3,
      signals: [
        { ...keys(), values: Float32Array.of(1, 0, 1, 0.1, 0, 1) },
        { ...keys({ layer: -1 }), values: Float32Array.of(1, 0, 0, 1, 1, 0.1) },
        { ...features(), values: Float32Array.of(1, -1, 1) },
      ],
    });
    expect([...(await tokens.nearest(keys(), Uint32Array.of(0), 1))]).toEqual([1]);
    expect([...(await tokens.nearest(keys({ layer: -1 }), Uint32Array.of(0), 1))]).toEqual([2]);
    expect([...(await tokens.nearest(features(), Uint32Array.of(0), 1))]).toEqual([2]);
    await expect(tokens.nearest(keys({ layer: 3 }), Uint32Array.of(0), 1)).rejects.toThrow(
      SignalUnavailableError,
    );
  });

  it.each<[string, Partial<TokensInit>, string]>([
    ['no tokens', { length: 0, spans: [{ start: 0, length: 0 }] }, 'tokens.length'],
    ['a fraction of a token', { length: 1.5 }, 'tokens.length'],
    ['a grid of another size', { grid: { rows: 2, columns: 3 } }, 'tokens.grid'],
    ['a grid of NaN', { grid: { rows: NaN, columns: 4 } }, 'tokens.grid'],
    ['no spans', { spans: [] }, 'tokens.spans'],
    [
      'spans with a gap',
      {
        spans: [
          { start: 0, length: 1 },
          { start: 2, length: 2 },
        ],
      },
      'tokens.spans',
    ],
    [
      'spans that overlap',
      {
        spans: [
          { start: 0, length: 3 },
          { start: 2, length: 2 },
        ],
      },
      'tokens.spans',
    ],
    ['spans beyond the tokens', { spans: [{ start: 0, length: 5 }] }, 'tokens.spans'],
    [
      'a span of negative length',
      {
        spans: [
          { start: 0, length: 5 },
          { start: 5, length: -1 },
        ],
      },
      'tokens.spans',
    ],
    ['sizes of other tokens', { sizes: Float32Array.of(1, 1) }, 'tokens.sizes'],
    ['a size of 0', { sizes: Float32Array.of(1, 1, 0, 1) }, 'tokens.sizes'],
    ['a size of NaN', { sizes: Float32Array.of(1, 1, NaN, 1) }, 'tokens.sizes'],
    ['a hash that is no string', { imageHash: 7 as unknown as string }, 'tokens.imageHash'],
  ])('refuses %s', (_, change, argument) => {
    const make = (): unknown => createTokens({ length: 4, ...change });
    expect(make).toThrow(InvalidArgumentError);
    expect(make).toThrow(argument);
  });
});

describe('similarityBy', () => {
  it('asks by rows, one a token', () => {
    expect(similarityBy(keys({ layer: -1 }))).toEqual({ similarityBy: keys({ layer: -1 }) });
  });

  it.each([attentionGiven(), textEmbeddings(), attentionMap()])('refuses $signal.name', (request) => {
    expect(() => similarityBy(request)).toThrow(InvalidArgumentError);
    expect(() => similarityBy(request)).toThrow(
      `rows must be a signal of the shape [N, D]; received "${signalId(request)}"`,
    );
  });
});

describe('readTokens', () => {
  const given = Float32Array.of(0.1, 0.2);
  const rows = Float32Array.of(1, 0, 0, 1);
  const init: TokensInit = {
    length: 2,
    grid: { rows: 2, columns: 1 },
    sizes: Float32Array.of(1, 3),
    imageHash: 'image',
    signals: [
      { ...attentionGiven(), values: given },
      { ...attentionReceived({ layer: 4 }), values: Float32Array.of(3, 4) },
      { ...keys(), values: rows },
    ],
  };

  it('gives what the method asks for under its own names, and nothing else', async () => {
    const view = await readTokens(createTokens(init), { mine: attentionGiven() }, atFeatures);
    expect(view).toEqual({
      length: 2,
      grid: { rows: 2, columns: 1 },
      spans: [{ start: 0, length: 2 }],
      sizes: Float32Array.of(1, 3),
      imageHash: 'image',
      signals: { mine: given },
    });
    expect(view.signals.mine).toBe(given);
  });

  it('reads before the site', async () => {
    const received = attentionReceived({ layer: 'before' });
    const { signals } = await readTokens(createTokens(init), { received }, beforeVisionLayer(5));
    expect([...signals.received]).toEqual([3, 4]);
    const other = readTokens(createTokens(init), { received }, beforeVisionLayer(4));
    await expect(other).rejects.toThrow('attentionReceived@3:patches is not available');
  });

  it('answers for neighbours where their rows are, and only when asked', async () => {
    const asked: [SignalRequest, number[], number][] = [];
    const source: TokenSource = {
      ...createTokens(init),
      nearest: async (request, of, k) => {
        asked.push([request, [...of], k]);
        return Uint32Array.of(1);
      },
    };
    const requires = { similar: similarityBy(keys({ layer: 'before' })) };
    const { signals } = await readTokens(source, requires, beforeVisionLayer(3));
    expect(asked).toEqual([]);
    expect([...(await signals.similar.nearest(Uint32Array.of(0), 7))]).toEqual([1]);
    expect(asked).toEqual([[keys({ layer: 2 }), [0], 7]]);
  });

  it('reads each signal once', async () => {
    const asked: string[] = [];
    const tokens = createTokens(init);
    const source: TokenSource = {
      ...tokens,
      signal: (request) => {
        asked.push(signalId(request));
        return tokens.signal(request);
      },
    };
    const requires = { given: attentionGiven(), rows: keys(), similar: similarityBy(keys()) };
    await readTokens(source, requires, atFeatures);
    expect(asked).toEqual(['attentionGiven@features', 'keys@features:joined']);
  });

  it.each<[string, Float32Array]>([
    ['a value too many', Float32Array.of(0, 1, 2)],
    ['none', new Float32Array(0)],
    ['NaN', Float32Array.of(0, NaN)],
    ['a negative value', Float32Array.of(0, -1)],
  ])('refuses %s', async (_, values) => {
    const source = createTokens({ length: 2, signals: [{ ...attentionGiven(), values }] });
    await expect(readTokens(source, { given: attentionGiven() }, atFeatures)).rejects.toThrow(
      InvalidSignalError,
    );
  });

  it('refuses what is missing, and a layout that is none', async () => {
    const requires = { given: attentionGiven() };
    await expect(readTokens(createTokens({ length: 2 }), requires, atFeatures)).rejects.toThrow(
      SignalUnavailableError,
    );
    const short = { ...createTokens(init), length: 3 };
    await expect(readTokens(short, requires, atFeatures)).rejects.toThrow(InvalidArgumentError);
  });
});

it('requestsOf lists the signals behind requirements at a site, each once', () => {
  const requires = {
    attention: promptAttention(),
    rows: keys(),
    similar: similarityBy(keys()),
    others: similarityBy(features()),
  };
  expect(requestsOf(requires, beforeLanguageLayer(3))).toEqual([
    promptAttention({ layer: 2 }),
    keys(),
    features(),
  ]);
  expect(requestsOf({}, atFeatures)).toEqual([]);
});
