import { describe, expect, it } from 'vitest';
import { InvalidArgumentError, SignalUnavailableError } from './errors.js';
import { createVisualTokens, type VisualTokensInit } from './visual-tokens.js';

describe('createVisualTokens', () => {
  it('has one span and an empty key unless told otherwise', () => {
    const { length, grid, spans, key } = createVisualTokens({ length: 3 });
    expect({ length, grid, spans, key }).toEqual({
      length: 3,
      grid: undefined,
      spans: [{ start: 0, length: 3 }],
      key: '',
    });
  });

  it('answers the signals of the layers that were given, and no others', async () => {
    const features = Float32Array.of(0.25, 0.75);
    const last = Float32Array.of(0.5, 0.5);
    const tokens = createVisualTokens({
      length: 2,
      signals: [
        { signal: 'classAttention', values: features },
        { signal: 'classAttention', layer: 'last', values: last },
      ],
    });
    expect(await tokens.signal({ signal: 'classAttention', layer: 'features' })).toBe(features);
    expect(await tokens.signal({ signal: 'classAttention', layer: 'last' })).toBe(last);
    const missing = tokens.signal({ signal: 'attentionGiven' });
    await expect(missing).rejects.toThrow(SignalUnavailableError);
    await expect(missing).rejects.toThrow('provided: classAttention@features, classAttention@last');
  });

  it('answers nearest from the keys of the layer asked for', async () => {
    const tokens = createVisualTokens({
      length: 3,
      signals: [
        { signal: 'keys', values: Float32Array.of(1, 0, 1, 0.1, 0, 1) },
        { signal: 'keys', layer: 'last', values: Float32Array.of(1, 0, 0, 1, 1, 0.1) },
      ],
    });
    expect([...(await tokens.nearest(Uint32Array.of(0), 1))]).toEqual([1]);
    expect([...(await tokens.nearest(Uint32Array.of(0), 1, 'last'))]).toEqual([2]);
    await expect(tokens.nearest(Uint32Array.of(0), 1, 3)).rejects.toThrow(SignalUnavailableError);
  });

  it.each<[string, Partial<VisualTokensInit>, string]>([
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
    ['a key that is no string', { key: 7 as unknown as string }, 'tokens.key'],
  ])('refuses %s', (_, change, argument) => {
    const make = (): unknown => createVisualTokens({ length: 4, ...change });
    expect(make).toThrow(InvalidArgumentError);
    expect(make).toThrow(argument);
  });
});
