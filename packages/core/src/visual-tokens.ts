import { InvalidArgumentError, SignalUnavailableError } from './errors.js';
import type { Grid } from './plan.js';
import { nearestKeys } from './nearest-keys.js';
import { signalId, type EncoderLayer, type SignalRequest } from './signals.js';

/** A run of tokens that belong to one image. */
export interface Span {
  /** Index of the first among these tokens. */
  readonly start: number;
  readonly length: number;
}

/**
 * Visual tokens as a reducer sees them: their number, their place and the signals it asked for; never their features. Made by whoever ran
 * the encoder (for example with {@link createVisualTokens}).
 */
export interface VisualTokens {
  /** N >= 1 */
  readonly length: number;
  /** Absent where the tokens do not fill a grid. */
  readonly grid?: Grid;
  /** One for a vision reducer (one image or crop); one per image for a language reducer, which ranks all visual tokens of the prompt together. They tile [0, N). */
  readonly spans: readonly Span[];
  /** Hash of the decoded image: the seed of anything random. */
  readonly key: string;
  /**
   * The values of a signal that the reducer named in `requires`, shaped as {@link SignalRequest} says.
   * @throws SignalUnavailableError where there is no such signal
   */
  signal(request: SignalRequest): Promise<Float32Array>;
  /**
   * For each token of `of`, its min(k, N - 1) nearest OTHER tokens by cosine of their keys, nearest first, ties to the lower index; answered where the
   * keys are. Needs `keys` of that layer in `requires`.
   * @param layer default `'features'`
   * @returns [of.length, min(k, N - 1)] row-major
   */
  nearest(of: Uint32Array, k: number, layer?: EncoderLayer): Promise<Uint32Array>;
}

/** A signal with its values: the request, and what {@link SignalRequest} says it is shaped like. */
export type Signal = SignalRequest & { readonly values: Float32Array };

/** What {@link createVisualTokens} makes tokens from. */
export interface VisualTokensInit {
  /** N, a positive integer. */
  readonly length: number;
  /** Default: none. */
  readonly grid?: Grid;
  /** Default: one span over all tokens. */
  readonly spans?: readonly Span[];
  /** Default: the empty string. */
  readonly key?: string;
  /** Default: none. Values are checked when a reducer reads them. */
  readonly signals?: readonly Signal[];
}

/**
 * Visual tokens with all their signals at hand.
 * @throws InvalidArgumentError on a length below 1, a grid that does not hold the tokens, spans that do not tile them
 */
export function createVisualTokens(init: VisualTokensInit): VisualTokens {
  const { length, grid, spans = [{ start: 0, length }], key = '', signals = [] } = init;
  const values = new Map(signals.map((signal) => [signalId(signal), signal.values]));
  const tokens: VisualTokens = {
    length,
    ...(grid && { grid }),
    spans,
    key,
    signal: async (request) => {
      const found = values.get(signalId(request));
      if (found) return found;
      const provided = [...values.keys()].join(', ') || 'none';
      throw new SignalUnavailableError(
        signalId(request),
        `it was not provided with the tokens (provided: ${provided}).`,
      );
    },
    nearest: async (of, k, layer = 'features') =>
      nearestKeys(await tokens.signal({ signal: 'keys', layer }), length, of, k),
  };
  checkTokens(tokens);
  return tokens;
}

/**
 * Checks what tokens say of themselves, their signals aside.
 * @throws InvalidArgumentError on a length below 1, a grid that does not hold the tokens, spans that do not tile them, a key that is no string
 */
export function checkTokens({ length, grid, spans, key }: VisualTokens): void {
  if (!(Number.isSafeInteger(length) && length >= 1)) {
    throw new InvalidArgumentError('tokens.length', length, 'a positive integer');
  }
  if (grid) {
    const { rows, columns } = grid;
    if (!(Number.isInteger(rows) && Number.isInteger(columns) && rows > 0 && rows * columns === length)) {
      throw new InvalidArgumentError(
        'tokens.grid',
        grid,
        `rows and columns whose product is the ${length} tokens`,
      );
    }
  }
  let end = 0;
  for (const span of spans) {
    if (span.start !== end || !(Number.isInteger(span.length) && span.length >= 0)) break;
    end += span.length;
  }
  if (spans.length === 0 || end !== length) {
    throw new InvalidArgumentError('tokens.spans', spans, `runs that tile the ${length} tokens in order`);
  }
  if (typeof key !== 'string') throw new InvalidArgumentError('tokens.key', key, 'a string');
}
