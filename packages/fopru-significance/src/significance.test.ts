import { attentionGiven, attentionReceived, InvalidSignalError, referenceBackend } from '@foveate/core';
import { describe, expect, it } from 'vitest';
import {
  chooseByVariance,
  significance,
  significanceRules,
  significanceSignals,
  type SignificanceRule,
} from './significance.js';

// Means .25 and .5. Variances: given (.0625 + .0625) / 2 = .0625; received (.01 + .01) / 2 = .01.
const given = Float32Array.of(0, 0.5);
const received = Float32Array.of(0.4, 0.6);

describe('significance', () => {
  it.each<[SignificanceRule, Float32Array]>([
    ['variance', given],
    ['low-variance', received],
    ['given', given],
    ['received', received],
  ])('%s', (rule, expected) => {
    expect(significance({ given, received }, rule)).toEqual(expected);
  });

  it('asks for no more signals than it reads', () => {
    expect(significanceSignals('received')).toEqual({ received: attentionReceived() });
    expect(significanceSignals('given')).toEqual({ given: attentionGiven() });
    expect(Object.keys(significanceSignals('low-variance'))).toEqual(['given', 'received']);
    expect(significance({ received }, 'received')).toEqual(received);
  });

  it('lists its rules, the one of the paper first', () => {
    expect(significanceRules).toEqual(['variance', 'low-variance', 'given', 'received']);
  });
});

describe('chooseByVariance', () => {
  it('takes the attention received where the variances are equal', () => {
    const mirrored = Float32Array.of(0.5, 0);
    expect(chooseByVariance(given, mirrored, 'variance')).toBe(mirrored);
    expect(chooseByVariance(given, mirrored, 'low-variance')).toBe(given);
  });

  it('is about the spread, not the size', () => {
    const large = Float32Array.of(10, 10.25);
    expect(chooseByVariance(large, given, 'variance')).toBe(given);
  });

  it('refuses two lengths', () => {
    expect(() => chooseByVariance(given, new Float32Array(3), 'variance')).toThrow(InvalidSignalError);
  });
});

describe('from an attention map', () => {
  it('without CLS the attention received wins, because every token gives 1 / N', async () => {
    const map = Float32Array.of(...[0.5, 0.25, 0.25], ...[0.125, 0.75, 0.125], ...[0, 1, 0]); // [1, 3, 3]
    const attention = referenceBackend.upload(map, [1, 3, 3]);
    const marginals = await referenceBackend.marginals(attention, { classToken: false });
    expect(chooseByVariance(marginals.given, marginals.received, 'variance')).toBe(marginals.received);
  });

  it('with CLS, the columns and the row of CLS left out, what tokens keep for one another decides', async () => {
    // Token 0 gives 1 to CLS, token 1 gives 1 to the tokens: given (0, .5). Both receive 1 / 2 of token 1's:
    // (.25, .25).
    const map = Float32Array.of(...[0, 0.5, 0.5], ...[1, 0, 0], ...[0, 0.5, 0.5]); // [1, 3, 3]
    const attention = referenceBackend.upload(map, [1, 3, 3]);
    const marginals = await referenceBackend.marginals(attention, { classToken: true });
    expect([...chooseByVariance(marginals.given, marginals.received, 'variance')]).toEqual([0, 0.5]);
  });
});
