/**
 * The visual tokens of a crop on the encoder's features, as reducers see them. Runs in the caller's thread.
 */
import { carryTokens, createTokens, selectionPlan, signalId, type TokenSource } from '@foveate/core';
import type { CropTokens, EngineApi } from '../engine/api.js';

/** Answers what did not come with the tokens. */
export type AskEngine = Pick<EngineApi, 'signal' | 'nearest'>;

/**
 * The encoder's tokens with all their signals: those at hand, and those that the engine is asked for.
 * @throws InvalidArgumentError on a layout that is none
 */
export function cropTokens(
  { length, left, grid, signals }: CropTokens,
  imageHash: string,
  ask: AskEngine,
): TokenSource {
  const tokens = createTokens({ length, ...(grid && !left && { grid }), imageHash });
  const values = new Map(signals.map((signal) => [signalId(signal), signal.values]));
  return {
    ...tokens,
    signal: async (request) => {
      const id = signalId(request);
      return values.has(id) ? (values.get(id) ?? ask.signal(request)) : tokens.signal(request);
    },
    nearest: async (rows, of, k) =>
      values.has(signalId(rows)) ? ask.nearest(rows, of, k) : tokens.nearest(rows, of, k),
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
