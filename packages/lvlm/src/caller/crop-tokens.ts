/**
 * The visual tokens of a crop on the encoder's features, as reducers see them. Runs in the caller's thread.
 */
import {
  carryTokens,
  createTokens,
  selectionPlan,
  signalId,
  type SignalRequest,
  type TokenSource,
  type TokensInit,
} from '@foveate/core';
import type { CropTokens, EngineApi, SentSignal } from '../engine/api.js';

/** Answers what did not come with the tokens of one crop, or of the prompt. */
export interface AskEngine {
  readonly signal: (request: SignalRequest) => Promise<Float32Array>;
  readonly nearest: TokenSource['nearest'];
  readonly similarity: TokenSource['similarity'];
  readonly products: TokenSource['products'];
}

/** What the caller's thread asks while its plans are awaited. */
export type AskableEngine = Pick<EngineApi, 'signal' | 'nearest' | 'similarity' | 'products'>;

/** Asks about one of those whose plans are awaited. */
export function askAmong(engine: AskableEngine, among: number): AskEngine {
  return {
    signal: (request) => engine.signal(request, among),
    nearest: (rows, of, k) => engine.nearest(rows, of, k, among),
    similarity: (rows, to, measure) => engine.similarity(rows, to, measure, among),
    products: (rows, others, channels) => engine.products(rows, others, channels),
  };
}

/**
 * The encoder's tokens with all their signals: those at hand, and those that the engine is asked for.
 * @throws InvalidArgumentError on a layout that is none
 */
export function cropTokens(
  { length, left, fold, grid, sizes, encoder, signals }: CropTokens,
  imageHash: string,
  ask: AskEngine,
): TokenSource {
  const own = {
    length,
    ...(grid && !left && { grid }),
    ...(sizes && { sizes }),
    ...(encoder && { encoder, entered: encoder.entered }),
    imageHash,
  };
  if (!fold) return askedTokens(own, signals, ask);
  const patches = askedTokens({ length: fold.inputLength, imageHash }, signals, ask);
  return foldedTokens(carryTokens(patches, fold), askedTokens(own, signals, ask));
}

/** Tokens with signals of which some are at hand, and the engine is asked for the others. */
export function askedTokens(layout: TokensInit, signals: readonly SentSignal[], ask: AskEngine): TokenSource {
  const tokens = createTokens(layout);
  const values = new Map(signals.map((signal) => [signalId(signal), signal.values]));
  return {
    ...tokens,
    signal: async (request) => {
      const id = signalId(request);
      return values.has(id) ? (values.get(id) ?? ask.signal(request)) : tokens.signal(request);
    },
    nearest: async (rows, of, k) =>
      values.has(signalId(rows)) ? ask.nearest(rows, of, k) : tokens.nearest(rows, of, k),
    similarity: async (rows, to, measure) =>
      (values.has(signalId(rows)) ? ask : tokens).similarity(rows, to, measure),
    products: ask.products,
  };
}

/**
 * Tokens that a connector folded: signals of the encoder's layers follow their patches, all others are the
 * tokens' own.
 */
function foldedTokens(patches: TokenSource, tokens: TokenSource): TokenSource {
  const ofPatches = ({ signal }: SignalRequest): boolean => signal.of === 'vision-layer';
  return {
    ...tokens,
    ...(!tokens.sizes && patches.sizes && { sizes: patches.sizes }),
    signal: (request) => (ofPatches(request) ? patches : tokens).signal(request),
    nearest: (rows, of, k) => (ofPatches(rows) ? patches : tokens).nearest(rows, of, k),
    similarity: (rows, to, measure) => (ofPatches(rows) ? patches : tokens).similarity(rows, to, measure),
  };
}

/**
 * Of the encoder's tokens those that reducers see; what the encoder saw, padding too, is in their signals.
 */
export function withoutPadding(
  tokens: TokenSource,
  { left, grid }: Pick<CropTokens, 'left' | 'grid'>,
): TokenSource {
  if (!left) return tokens;
  return carryTokens(tokens, selectionPlan(left, tokens.length, grid ? { grid } : {}));
}
