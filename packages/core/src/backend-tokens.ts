import type { AttentionMarginals, TensorBackend } from './backend.js';
import { InvalidArgumentError, SignalUnavailableError } from './errors.js';
import { mapGives, readFromMap } from './map-signals.js';
import { signalId, type SignalRequest } from './signals/define-signal.js';
import { createTokens, type TokensInit, type TokenSource } from './token-source.js';

/** A signal whose values are a tensor, shaped as it is declared. */
export type TensorSignal<Tensor> = SignalRequest & { readonly values: Tensor };

/** The attention maps of one layer: the signals that they give are read off them, each map once. */
export interface AttentionTensor<Tensor> {
  /** Default `'features'`. */
  readonly layer?: SignalRequest['layer'];
  /** [H, S, S] or [1, H, S, S], S = N, or N + 1 with CLS. */
  readonly values: Tensor;
  /** Whether row and column 0 are the CLS token's. Default false. */
  readonly classToken?: boolean;
}

/**
 * What {@link createBackendTokens} makes tokens from. The tensors stay the caller's, and must live as long as
 * the tokens are read.
 */
export interface BackendTokensInit<Tensor> extends Omit<TokensInit, 'signals'> {
  /** One a layer. Default: none. */
  readonly attention?: readonly AttentionTensor<Tensor>[];
  /**
   * Signals that are at hand as they are, of any layers; they go before what `attention` would give. Default:
   * none.
   */
  readonly signals?: readonly TensorSignal<Tensor>[];
}

/**
 * Visual tokens whose signals a backend reads from its tensors when a method asks for them.
 * @throws InvalidArgumentError as `createTokens` does
 * @example
 * const map = referenceBackend.upload(values, [heads, 577, 577]);
 * createBackendTokens(referenceBackend, { length: 576, attention: [{ values: map, classToken: true }] });
 */
export function createBackendTokens<Tensor>(
  backend: TensorBackend<Tensor>,
  { attention = [], signals = [], ...layout }: BackendTokensInit<Tensor>,
): TokenSource {
  const tokens = createTokens(layout);
  const tensors = new Map(signals.map((signal) => [signalId(signal), signal.values]));
  const marginalsOf = marginalsReader(backend, attention, tokens.length);
  const held = (request: SignalRequest): Tensor => {
    const tensor = tensors.get(signalId(request));
    if (tensor !== undefined) return tensor;
    throw new SignalUnavailableError(signalId(request), 'no tensor was given that it could be read from.');
  };
  return {
    ...tokens,
    signal: async (request) => {
      const marginals =
        tensors.has(signalId(request)) || !mapGives(request) ? undefined : await marginalsOf(request);
      return (marginals && readFromMap(request, marginals)) ?? backend.download(held(request));
    },
    nearest: async (rows, of, k) => backend.nearest(held(rows), of, k),
    similarity: async (rows, to, measure) => backend.similarity(held(rows), to, measure),
    products: async (rows, others, channels) => {
      const tensor = backend.upload(others, [others.length / channels, channels]);
      try {
        return await backend.similarity(tensor, rows, 'dot');
      } finally {
        backend.dispose(tensor);
      }
    },
  };
}

/** Reduces the maps of the layer that a request names; undefined where there are none. */
function marginalsReader<Tensor>(
  backend: TensorBackend<Tensor>,
  attention: readonly AttentionTensor<Tensor>[],
  length: number,
): (request: SignalRequest) => Promise<AttentionMarginals | undefined> {
  const maps = new Map<SignalRequest['layer'], AttentionTensor<Tensor>>(
    attention.map((map) => [map.layer ?? 'features', map]),
  );
  const read = new Map<SignalRequest['layer'], Promise<AttentionMarginals>>();
  return async ({ layer = 'features' }) => {
    const map = maps.get(layer);
    if (!map) return undefined;
    const reading = read.get(layer) ?? backend.marginals(map.values, { classToken: map.classToken ?? false });
    read.set(layer, reading);
    const marginals = await reading;
    if (marginals.given.length === length) return marginals;
    throw new InvalidArgumentError(
      'attention',
      `a map of ${marginals.given.length} tokens`,
      `one of ${length}`,
    );
  };
}
