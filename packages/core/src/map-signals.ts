/**
 * Which signals a tensor backend reads off a layer's attention maps: the providers of signals on a backend.
 */
import type { AttentionMarginals } from './backend.js';
import { attentionGiven } from './signals/attention-given.js';
import { attentionReceived } from './signals/attention-received.js';
import { classAttention } from './signals/class-attention.js';
import type { Signal, SignalRequest } from './signals/define-signal.js';

/** How a signal is read off a map's marginals. */
interface MapProvider {
  readonly signal: Pick<Signal, 'declaration'>;
  readonly read: (marginals: AttentionMarginals, request: SignalRequest) => Float32Array | undefined;
  /** Why what is read is not quite what was asked for; absent where it is. A sentence. */
  readonly approximation?: (request: SignalRequest) => string | undefined;
}

const providers: readonly MapProvider[] = [
  { signal: attentionGiven, read: ({ given }) => given },
  { signal: attentionReceived, read: receivedFrom },
  {
    signal: classAttention,
    read: ({ classAttention: row }) => row,
    approximation: ({ parameters }) =>
      parameters.heads === 'mean'
        ? undefined
        : 'class attention is the mean over heads of the attention map, not the attention of one head over all channels',
  },
];

/** The class token's query joins those of the patches where it is asked for. */
function receivedFrom(
  { received, classAttention: row }: AttentionMarginals,
  { parameters }: SignalRequest,
): Float32Array {
  if (parameters.queries !== 'all' || !row) return received;
  const { length } = received;
  return received.map((mean, token) => (mean * length + row[token]) / (length + 1));
}

const byName = new Map(providers.map((provider) => [provider.signal.declaration.name, provider]));

/** The signal's values from the marginals of its layer's maps; undefined where maps do not give it. */
export function readFromMap(request: SignalRequest, marginals: AttentionMarginals): Float32Array | undefined {
  return byName.get(request.signal.name)?.read(marginals, request);
}

/** Whether attention maps give a signal exactly as it is declared. */
export function mapGivesExactly(request: SignalRequest): boolean {
  const given = mapGives(request);
  return given !== undefined && given.approximation === undefined;
}

/**
 * Whether maps give a signal; undefined where they do not. `approximation` says what is different where they
 * give it only nearly as it is declared.
 */
export function mapGives(request: SignalRequest): { readonly approximation: string | undefined } | undefined {
  const provider = byName.get(request.signal.name);
  return provider && { approximation: provider.approximation?.(request) };
}
