import { describe, expect, it } from 'vitest';
import { createBackendTokens, type BackendTokensInit } from './backend-tokens.js';
import { InvalidArgumentError, InvalidSignalError, SignalUnavailableError } from './errors.js';
import { mapGives, mapGivesExactly } from './map-signals.js';
import { referenceBackend, type HostTensor } from './reference-backend.js';
import { attentionGiven } from './signals/attention-given.js';
import { attentionReceived } from './signals/attention-received.js';
import { classAttention } from './signals/class-attention.js';
import type { SignalRequest } from './signals/define-signal.js';
import { keys } from './signals/keys.js';

const tensor = (values: number[], shape: number[]): HostTensor =>
  referenceBackend.upload(Float32Array.from(values), shape);

// [1, 3, 3]: CLS and two tokens
const map = tensor([0.5, 0.375, 0.125, 0.5, 0.5, 0, 0.25, 0.25, 0.5], [1, 3, 3]);
const other = tensor([0.5, 0.25, 0.25, 0, 1, 0, 0, 0.25, 0.75], [1, 3, 3]);
const rows = tensor([1, 0, 0, 2], [2, 2]);

const read = async (init: BackendTokensInit<HostTensor>, request: SignalRequest): Promise<number[]> => [
  ...(await createBackendTokens(referenceBackend, init).signal(request)),
];

describe('createBackendTokens', () => {
  const init = {
    length: 2,
    attention: [{ values: map, classToken: true }],
    signals: [{ ...keys(), values: rows }],
  };

  it('reads the attention map, CLS left out', async () => {
    expect(await read(init, attentionGiven())).toEqual([0.25, 0.375]); // (.5 + 0) / 2, (.25 + .5) / 2
    expect(await read(init, attentionReceived())).toEqual([0.375, 0.25]);
    expect(await read(init, classAttention())).toEqual([0.375, 0.125]);
  });

  it('reads the maps of several layers, each once, whoever asks first', async () => {
    const read: HostTensor[] = [];
    const counting = {
      ...referenceBackend,
      marginals: (...given: Parameters<typeof referenceBackend.marginals>) => {
        read.push(given[0]);
        return referenceBackend.marginals(...given);
      },
    };
    const attention = [...init.attention, { layer: 1, values: other, classToken: true }];
    const tokens = createBackendTokens(counting, { ...init, attention });
    const values = await Promise.all(
      [
        attentionGiven(),
        attentionReceived({ layer: 1 }),
        attentionReceived(),
        attentionGiven({ layer: 1 }),
      ].map((request) => tokens.signal(request)),
    );
    expect(values.map((vector) => [...vector])).toEqual([
      [0.25, 0.375],
      [0.625, 0.375],
      [0.375, 0.25],
      [0.5, 0.5],
    ]);
    expect(read).toEqual([map, other]);
  });

  it('gives rows and answers for them', async () => {
    expect(await read(init, keys())).toEqual([1, 0, 0, 2]);
    const tokens = createBackendTokens(referenceBackend, init);
    expect([...(await tokens.nearest(keys(), Uint32Array.of(0), 5))]).toEqual([1]);
  });

  it('gives a signal at hand before what it would read', async () => {
    const signals = [{ ...classAttention(), values: tensor([0.75, 0.25], [2]) }];
    expect(await read({ ...init, signals }, classAttention())).toEqual([0.75, 0.25]);
  });

  it('knows the layers of its tensors', async () => {
    await expect(read(init, attentionGiven({ layer: -1 }))).rejects.toThrow(SignalUnavailableError);
    const tokens = createBackendTokens(referenceBackend, init);
    const rowsOfLast = tokens.nearest(keys({ layer: -1 }), Uint32Array.of(0), 1);
    await expect(rowsOfLast).rejects.toThrow(SignalUnavailableError);
  });

  it('has no class attention without CLS', async () => {
    const plain = { length: 3, attention: [{ values: map }] };
    expect(await read(plain, attentionReceived())).toHaveLength(3);
    await expect(read(plain, classAttention())).rejects.toThrow(SignalUnavailableError);
  });

  it('refuses a map of other tokens, and one with NaN', async () => {
    const wrong = { length: 3, attention: [{ values: map, classToken: true }] };
    await expect(read(wrong, attentionGiven())).rejects.toThrow(InvalidArgumentError);
    const broken = { length: 2, attention: [{ values: tensor([NaN, 0, 0, 0], [1, 2, 2]) }] };
    await expect(read(broken, attentionGiven())).rejects.toThrow(InvalidSignalError);
    expect(() => createBackendTokens(referenceBackend, { length: 0 })).toThrow(InvalidArgumentError);
  });
});

it('maps give some signals exactly, some about so, and others not', () => {
  expect(mapGivesExactly(attentionReceived())).toBe(true);
  expect(mapGivesExactly(classAttention({ heads: 'mean' }))).toBe(true);
  expect(mapGivesExactly(classAttention())).toBe(false);
  expect(mapGives(classAttention())?.approximation).toContain('mean over heads of the attention map');
  expect(mapGives(keys())).toBeUndefined();
});
