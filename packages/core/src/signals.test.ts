import { describe, expect, it } from 'vitest';
import { InvalidSignalError } from './errors.js';
import { checkSignal, signalId, type SignalRequest } from './signals.js';

it('signalId is equal exactly where two requests mean the same', () => {
  expect(signalId({ signal: 'keys' })).toBe(signalId({ signal: 'keys', layer: 'features' }));
  const ids = (
    [
      { signal: 'keys' },
      { signal: 'keys', layer: 'last' },
      { signal: 'keys', layer: 2 },
      { signal: 'classAttention' },
      { signal: 'promptAttention', layer: 2, rows: 'last' },
      { signal: 'promptAttention', layer: 2, rows: 'mean' },
      { signal: 'promptAttention', layer: 3, rows: 'mean' },
      { signal: 'attentionShare' },
    ] satisfies SignalRequest[]
  ).map(signalId);
  expect(new Set(ids).size).toBe(ids.length);
});

describe('checkSignal', () => {
  const given: SignalRequest = { signal: 'attentionGiven' };

  it('lets good values through', () => {
    const values = Float32Array.of(0, 0.5);
    expect(checkSignal(given, values, 2)).toBe(values);
    expect(checkSignal({ signal: 'keys' }, Float32Array.of(-1, 2, 3, -4), 2)).toHaveLength(4);
    expect(checkSignal({ signal: 'attentionShare' }, Float32Array.of(0.3, 0.4, 0.5), 2)).toHaveLength(3);
  });

  it.each<[string, SignalRequest, unknown, string]>([
    ['NaN', given, Float32Array.of(0, NaN), 'is NaN at index 1'],
    ['Infinity', { signal: 'keys' }, Float32Array.of(Infinity, 1), 'is Infinity at index 0'],
    ['negative attention', given, Float32Array.of(0, -0.5), 'is negative (-0.5) at index 1'],
    ['too few', given, Float32Array.of(1), 'has 1 values instead of one a token for 2 tokens'],
    ['too many', given, new Float32Array(3), 'has 3 values instead of one a token for 2 tokens'],
    ['keys that do not divide', { signal: 'keys' }, new Float32Array(3), 'has 3 values instead of N x D'],
    ['no keys', { signal: 'keys' }, new Float32Array(0), 'has 0 values'],
    ['no layers', { signal: 'attentionShare' }, new Float32Array(0), 'has 0 values instead of one a layer'],
    ['another type', given, [0, 1], 'is not a Float32Array'],
  ])('refuses %s', (_, request, values, message) => {
    const check = (): unknown => checkSignal(request, values as Float32Array, 2);
    expect(check).toThrow(InvalidSignalError);
    expect(check).toThrow(message);
  });
});
