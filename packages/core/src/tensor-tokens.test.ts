import { describe, expect, it } from 'vitest';
import { InvalidArgumentError, InvalidSignalError, SignalUnavailableError } from './errors.js';
import { referenceBackend, type HostTensor } from './reference-backend.js';
import type { SignalName } from './signals.js';
import { createTensorTokens, type TensorTokensInit } from './tensor-tokens.js';

const tensor = (values: number[], shape: number[]): HostTensor =>
  referenceBackend.upload(Float32Array.from(values), shape);

// [1, 3, 3]: CLS and two tokens
const attention = tensor([0.5, 0.375, 0.125, 0.5, 0.5, 0, 0.25, 0.25, 0.5], [1, 3, 3]);
const keys = tensor([1, 0, 0, 2], [2, 2]);

const read = async (
  init: TensorTokensInit<HostTensor>,
  signal: SignalName,
  layer?: 'last',
): Promise<number[]> => {
  const request = { signal: signal as 'keys', ...(layer && { layer }) };
  return [...(await createTensorTokens(referenceBackend, init).signal(request))];
};

describe('createTensorTokens', () => {
  const init = { length: 2, attention, classToken: true, keys };

  it('reads the attention map, CLS left out', async () => {
    expect(await read(init, 'attentionGiven')).toEqual([0.25, 0.375]); // (.5 + 0) / 2, (.25 + .5) / 2
    expect(await read(init, 'attentionReceived')).toEqual([0.375, 0.25]);
    expect(await read(init, 'classAttention')).toEqual([0.375, 0.125]);
  });

  it('reads the map once, whoever asks first', async () => {
    let times = 0;
    const counting = {
      ...referenceBackend,
      marginals: (...rest: Parameters<typeof referenceBackend.marginals>) => {
        times++;
        return referenceBackend.marginals(...rest);
      },
    };
    const tokens = createTensorTokens(counting, init);
    await Promise.all([
      tokens.signal({ signal: 'attentionGiven' }),
      tokens.signal({ signal: 'attentionReceived' }),
    ]);
    expect(times).toBe(1);
  });

  it('gives keys and answers for them', async () => {
    expect(await read(init, 'keys')).toEqual([1, 0, 0, 2]);
    const tokens = createTensorTokens(referenceBackend, init);
    expect([...(await tokens.nearest(Uint32Array.of(0), 5))]).toEqual([1]);
  });

  it('gives a signal at hand before what it would read', async () => {
    const signals = [{ signal: 'classAttention', values: tensor([0.75, 0.25], [2]) }] as const;
    expect(await read({ ...init, signals }, 'classAttention')).toEqual([0.75, 0.25]);
  });

  it('knows the layer of its tensors', async () => {
    expect(await read({ ...init, layer: 'last' }, 'attentionGiven', 'last')).toEqual([0.25, 0.375]);
    await expect(read(init, 'attentionGiven', 'last')).rejects.toThrow(SignalUnavailableError);
    const tokens = createTensorTokens(referenceBackend, init);
    await expect(tokens.nearest(Uint32Array.of(0), 1, 'last')).rejects.toThrow(SignalUnavailableError);
  });

  it('has no class attention without CLS', async () => {
    const plain = { length: 3, attention };
    expect(await read(plain, 'attentionReceived')).toHaveLength(3);
    await expect(read(plain, 'classAttention')).rejects.toThrow(SignalUnavailableError);
  });

  it('refuses a map of other tokens, and one with NaN', async () => {
    await expect(read({ length: 3, attention, classToken: true }, 'attentionGiven')).rejects.toThrow(
      InvalidArgumentError,
    );
    const broken = { length: 2, attention: tensor([NaN, 0, 0, 0], [1, 2, 2]) };
    await expect(read(broken, 'attentionGiven')).rejects.toThrow(InvalidSignalError);
    expect(() => createTensorTokens(referenceBackend, { length: 0 })).toThrow(InvalidArgumentError);
  });
});
