/** Visual tokens: their layout, what a method sees of them, and where their signals are read. */
import { InvalidArgumentError, SignalUnavailableError } from './errors.js';
import { nearestRows, type RowProducts } from './nearest-rows.js';
import type { Grid } from './plan.js';
import {
  plainProducts,
  similarityWith,
  type ComparedRows,
  type SimilarityMeasure,
} from './row-similarity.js';
import { checkSignal, requestAt, signalId, type SignalRequest } from './signals/define-signal.js';
import { siteMadeFor, type DeclaredSite, type Site } from './sites.js';

/** A run of tokens that belong to one image or crop. */
export interface Span {
  /** Index of the first among these tokens. */
  readonly start: number;
  readonly length: number;
}

/** Where tokens are inside a layer of the vision encoder. */
export interface EncoderPlace {
  /** Layers up to the one that makes the features. */
  readonly layers: number;
  /** Tokens before the first patch, which no method sees: 1 for a class token, 0 for none. */
  readonly prefixTokens: number;
}

/** How many tokens there are, how they lie, and which image they are of. */
export interface TokenLayout {
  /** N >= 1 */
  readonly length: number;
  /** Row-major, CLS excluded. Absent where the tokens do not fill a grid. */
  readonly grid?: Grid;
  /**
   * One for an image or crop; inside the language model one for each of them, whose tokens are ranked
   * together. They tile [0, N).
   */
  readonly spans: readonly Span[];
  /** [N] the patches that each token stands for. Absent: one each. */
  readonly sizes?: Float32Array;
  /**
   * How many tokens entered the tower, where methods before this one left fewer. Absent: as many as there
   * are.
   */
  readonly entered?: number;
  /**
   * [N] Where each token stands among all that this place in the language model sees, text included,
   * ascending. Absent outside the language model.
   */
  readonly places?: Uint32Array;
  /** Absent but inside a layer of the vision encoder. */
  readonly encoder?: EncoderPlace;
  /** Hash of the decoded image: the seed of anything random. */
  readonly imageHash: string;
}

/** The signals that a method asks for, each under the name by which the method reads it. */
export type Requirements = Readonly<Record<string, SignalRequest | SimilarityRequest>>;

/**
 * How alike tokens are by a signal [N, D]; answered where its values are, which are wide and stay there.
 */
export interface SimilarityRequest {
  readonly similarityBy: SignalRequest;
}

/**
 * Asks for the {@link Similarity} by a signal.
 * @param rows a signal [N, D]
 * @throws InvalidArgumentError on a signal of another shape
 * @example
 * defineReducer({ requires: { similar: similarityBy(keys()) }, ... })
 * // and in plan: await tokens.signals.similar.nearest(kept, 32)
 */
export function similarityBy(rows: SignalRequest): SimilarityRequest {
  if (rows.signal.shape.join() !== 'N,D') {
    throw new InvalidArgumentError('rows', signalId(rows), 'a signal of the shape [N, D]');
  }
  return { similarityBy: rows };
}

/** Answers which tokens are alike, and how much. */
export interface Similarity {
  /**
   * For each token of `of`, its min(k, N - 1) nearest OTHER tokens by cosine, nearest first, ties to the
   * lower index.
   * @returns [of.length, min(k, N - 1)] row-major
   * @throws InvalidArgumentError on `of` out of range, k below 1; InvalidSignalError on NaN or Infinity in
   * the rows
   */
  nearest(of: Uint32Array, k: number): Promise<Uint32Array>;
  /**
   * The cosine of every token's row with each of `to`: tokens by their indices [Q], or rows [Q, D] from
   * elsewhere; 0 where a row has norm 0. In float32.
   * @returns [Q, N] row-major
   * @throws InvalidArgumentError on an index out of range, on rows of another width; InvalidSignalError on
   * NaN or Infinity in the rows
   */
  cosines(to: ComparedRows): Promise<Float32Array>;
  /** The same with dot products. */
  dots(to: ComparedRows): Promise<Float32Array>;
}

/** The values of {@link Requirements}, under the same names. */
export type SignalsOf<R extends Requirements> = {
  readonly [Name in keyof R]: R[Name] extends SimilarityRequest ? Similarity : Float32Array;
};

/**
 * Visual tokens as a method sees them: their number, their place and the signals it asked for; never their
 * features, unless these are a signal it asked for.
 */
export interface VisualTokens<R extends Requirements = Requirements> extends TokenLayout {
  /** Checked against their declarations. Read them, never write them. */
  readonly signals: SignalsOf<R>;
}

/**
 * Tokens and how their signals are read: what a runner has of an image, or what {@link createTokens} makes.
 */
export interface TokenSource extends TokenLayout {
  /**
   * The values of a signal.
   * @throws SignalUnavailableError where there is no such signal
   */
  signal(request: SignalRequest): Promise<Float32Array>;
  /** As {@link Similarity}, by the rows of a signal [N, D]. */
  nearest(rows: SignalRequest, of: Uint32Array, k: number): Promise<Uint32Array>;
  /** As {@link Similarity.cosines} and `dots`, by the rows of a signal [N, D]. [Q, N] */
  similarity(rows: SignalRequest, to: ComparedRows, measure: SimilarityMeasure): Promise<Float32Array>;
  /** Multiplies rows that are carried behind a plan, where this runner does it fast. */
  readonly products: RowProducts;
}

/** A request with its values. */
export type GivenSignal = SignalRequest & { readonly values: Float32Array };

/** What {@link createTokens} makes tokens from. */
export interface TokensInit {
  /** N, a positive integer. */
  readonly length: number;
  /** Default: none. */
  readonly grid?: Grid;
  /** Default: one span over all tokens. */
  readonly spans?: readonly Span[];
  /** Default: one patch a token. */
  readonly sizes?: Float32Array;
  /** Default: `length`. */
  readonly entered?: number;
  /** Default: none. */
  readonly places?: Uint32Array;
  /** Default: none. */
  readonly encoder?: EncoderPlace;
  /** Default: the empty string. */
  readonly imageHash?: string;
  /** Default: none. Values are checked when a method reads them. */
  readonly signals?: readonly GivenSignal[];
}

/**
 * Visual tokens with all their signals at hand.
 * @throws InvalidArgumentError on a length below 1, a grid that does not hold the tokens, spans that do not
 * tile them
 * @example
 * const values = Float32Array.of(0.1, 0.4, 0.3, 0.2);
 * createTokens({ length: 4, signals: [{ ...attentionReceived(), values }] });
 */
export function createTokens(init: TokensInit): TokenSource {
  const { length, spans = [{ start: 0, length }], imageHash = '', signals = [] } = init;
  const values = new Map(signals.map((signal) => [signalId(signal), signal.values]));
  const tokens: TokenSource = {
    ...layoutOf({ ...init, spans, imageHash }),
    signal: async (request) => {
      const found = values.get(signalId(request));
      if (found) return found;
      const provided = [...values.keys()].join(', ') || 'none';
      throw new SignalUnavailableError(
        signalId(request),
        `it was not provided with the tokens (provided: ${provided}).`,
      );
    },
    nearest: async (rows, of, k) => nearestRows(await tokens.signal(rows), length, of, k),
    similarity: async (rows, to, measure) =>
      similarityWith(plainProducts, await tokens.signal(rows), length, to, measure),
    products: plainProducts,
  };
  checkLayout(tokens);
  return tokens;
}

/** The layout alone, without what else an object has. */
function layoutOf(layout: TokenLayout): TokenLayout {
  const { length, grid, spans, sizes, entered, places, encoder, imageHash } = layout;
  return {
    length,
    ...(grid && { grid }),
    spans,
    ...(sizes && { sizes }),
    ...(entered !== undefined && { entered }),
    ...(places && { places }),
    ...(encoder && { encoder }),
    imageHash,
  };
}

/**
 * The tokens with the signals that a method asks for, each read once and checked.
 * @param site where the method acts, its layer counted from the start
 * @throws SignalUnavailableError, InvalidSignalError; InvalidArgumentError on a layout that is none
 */
export async function readTokens<R extends Requirements>(
  source: TokenSource,
  requires: R,
  site: Site,
): Promise<VisualTokens<R>> {
  checkLayout(source);
  const read = Object.entries(requires).map(async ([name, required]) => {
    if (!('similarityBy' in required)) {
      const request = requestAt(required, site);
      return [name, checkSignal(request, await source.signal(request), source.length)] as const;
    }
    const rows = requestAt(required.similarityBy, site);
    const similarity: Similarity = {
      nearest: (of, k) => source.nearest(rows, of, k),
      cosines: (to) => source.similarity(rows, to, 'cosine'),
      dots: (to) => source.similarity(rows, to, 'dot'),
    };
    return [name, similarity] as const;
  });
  return { ...layoutOf(source), signals: Object.fromEntries(await Promise.all(read)) as SignalsOf<R> };
}

/**
 * The signals behind requirements, neighbours' rows included, as a method reads them at a site; each once.
 */
export function requestsOf(requires: Requirements, declared: DeclaredSite): SignalRequest[] {
  const site = siteMadeFor(declared);
  const requests = Object.values(requires).map((required) =>
    requestAt('similarityBy' in required ? required.similarityBy : required, site),
  );
  return [...new Map(requests.map((request) => [signalId(request), request])).values()];
}

/**
 * Checks a layout.
 * @throws InvalidArgumentError on a length below 1, a grid that does not hold the tokens, spans that do not
 * tile them, sizes or places that are not one a token, a hash that is no string
 */
function checkLayout(layout: TokenLayout): void {
  const { length, grid, spans, sizes, entered = layout.length, places, encoder, imageHash } = layout;
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
  if (sizes && (sizes.length !== length || !sizes.every((size) => Number.isFinite(size) && size > 0))) {
    throw new InvalidArgumentError(
      'tokens.sizes',
      sizes,
      `a positive number for each of the ${length} tokens`,
    );
  }
  if (!(Number.isSafeInteger(entered) && entered >= 1)) {
    throw new InvalidArgumentError('tokens.entered', entered, 'a positive integer');
  }
  if (places && (places.length !== length || places.some((place, i) => i > 0 && place <= places[i - 1]))) {
    throw new InvalidArgumentError(
      'tokens.places',
      places,
      `ascending, one for each of the ${length} tokens`,
    );
  }
  if (encoder && !(isCount(encoder.layers, 1) && isCount(encoder.prefixTokens, 0))) {
    throw new InvalidArgumentError('tokens.encoder', encoder, 'whole numbers of layers and prefix tokens');
  }
  if (typeof imageHash !== 'string')
    throw new InvalidArgumentError('tokens.imageHash', imageHash, 'a string');
}

function isCount(value: number, from: number): boolean {
  return Number.isSafeInteger(value) && value >= from;
}
