import type { AttentionMarginals, TensorBackend } from './backend.js';
import { InvalidArgumentError, SignalUnavailableError } from './errors.js';
import type { Grid } from './plan.js';
import { signalId, type EncoderLayer, type SignalRequest } from './signals.js';
import { createVisualTokens, type VisualTokens } from './visual-tokens.js';

/** A signal whose values are a tensor, shaped as {@link SignalRequest} says. */
export type TensorSignal<Tensor> = SignalRequest & { readonly values: Tensor };

/** What {@link createTensorTokens} makes tokens from. The tensors stay the caller's, and must live as long as the tokens are read. */
export interface TensorTokensInit<Tensor> {
  /** N, a positive integer. */
  readonly length: number;
  /** Default: none. */
  readonly grid?: Grid;
  /** Default: the empty string. */
  readonly key?: string;
  /**
   * [H, L, L] or [1, H, L, L], L = N, or N + 1 with CLS: gives `attentionGiven`, `attentionReceived` and, with CLS, `classAttention` as the mean over heads.
   */
  readonly attention?: Tensor;
  /** Whether row and column 0 of `attention` are the CLS token's. Default false. */
  readonly classToken?: boolean;
  /** [N, C], CLS excluded: gives `keys`, and answers `nearest`. */
  readonly keys?: Tensor;
  /** The encoder layer of `attention` and `keys`. Default `'features'`. */
  readonly layer?: EncoderLayer;
  /** Signals that are at hand as they are; they go before what `attention` and `keys` would give. Default: none. */
  readonly signals?: readonly TensorSignal<Tensor>[];
}

/**
 * Visual tokens whose signals a backend reads from its tensors when a reducer asks for them, the attention map once.
 * @throws InvalidArgumentError as `createVisualTokens` does
 */
export function createTensorTokens<Tensor>(
  backend: TensorBackend<Tensor>,
  init: TensorTokensInit<Tensor>,
): VisualTokens {
  const { length, grid, key = '', layer = 'features' } = init;
  const tensors = new Map<string, Tensor>();
  if (init.keys !== undefined) tensors.set(signalId({ signal: 'keys', layer }), init.keys);
  for (const signal of init.signals ?? []) tensors.set(signalId(signal), signal.values);
  const readMarginal = marginalReader(backend, init);
  const unavailable = (request: SignalRequest): SignalUnavailableError =>
    new SignalUnavailableError(signalId(request), 'no tensor was given that it could be read from.');
  return {
    ...createVisualTokens({ length, key, ...(grid && { grid }) }),
    signal: async (request) => {
      const tensor = tensors.get(signalId(request));
      const values = tensor ? await backend.download(tensor) : await readMarginal(request);
      if (!values) throw unavailable(request);
      return values;
    },
    nearest: async (of, k, from = 'features') => {
      const request: SignalRequest = { signal: 'keys', layer: from };
      const tensor = tensors.get(signalId(request));
      if (!tensor) throw unavailable(request);
      return backend.nearestKeys(tensor, of, k);
    },
  };
}

/** Reads a signal off the attention map; undefined where the map does not give it. */
function marginalReader<Tensor>(
  backend: TensorBackend<Tensor>,
  { attention, classToken = false, layer = 'features', length }: TensorTokensInit<Tensor>,
): (request: SignalRequest) => Promise<Float32Array | undefined> {
  const names = new Map<string, keyof AttentionMarginals>([
    [`attentionGiven@${layer}`, 'given'],
    [`attentionReceived@${layer}`, 'received'],
    [`classAttention@${layer}`, 'classAttention'],
  ]);
  let marginals: Promise<AttentionMarginals> | undefined;
  return async (request) => {
    const name = names.get(signalId(request));
    if (attention === undefined || name === undefined) return undefined;
    const vectors = await (marginals ??= backend.marginals(attention, { classToken }));
    if (vectors.given.length !== length) {
      throw new InvalidArgumentError(
        'attention',
        `a map of ${vectors.given.length} tokens`,
        `one of ${length}`,
      );
    }
    return vectors[name];
  };
}
