/** The visual tokens of a crop on the encoder's features, as reducers see them. Runs in the caller's thread. */
import { createTokens, signalId, type TokenSource } from '@foveate/core';
import type { CropTokens, EngineApi } from '../engine/api.js';

/** Answers what did not come with the tokens. */
export type AskEngine = Pick<EngineApi, 'signal' | 'nearest'>;

/**
 * The tokens with all their signals: those at hand, and those that the engine is asked for.
 * @throws InvalidArgumentError on a layout that is none
 */
export function cropTokens(
  { length, grid, signals }: CropTokens,
  imageHash: string,
  ask: AskEngine,
): TokenSource {
  const tokens = createTokens({ length, ...(grid && { grid }), imageHash });
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
