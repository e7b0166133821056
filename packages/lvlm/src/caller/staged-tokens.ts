/** The visual tokens of a crop on their way through the encoder, as the reducers of its sites see them. Runs in the caller's thread. */
import { carryTokens, createTokens, signalId, type TokenSource } from '@foveate/core';
import type { EngineApi, TokenStage } from '../engine/api.js';

/** Answers what did not come with the tokens. */
export type AskEngine = Pick<EngineApi, 'signal' | 'nearest'>;

/**
 * The tokens at the end of some stages, with all their signals: what a later stage has replaces what was carried to it from an earlier one.
 * @param before the tokens that enter the first of the stages; null: none did yet
 * @throws InvalidArgumentError on a layout that is none
 */
export function stagedTokens(
  before: TokenSource | null,
  stages: readonly TokenStage[],
  imageHash: string,
  ask: AskEngine,
): TokenSource {
  let tokens = before;
  for (const stage of stages) {
    const own = withSignals(tokens ?? tokensOf(stage, imageHash), stage, ask);
    tokens = stage.plan ? carryTokens(own, stage.plan) : own;
  }
  return tokens ?? createTokens({ length: 0, imageHash }); // without stages there are no tokens, which is refused
}

function tokensOf({ length, grid }: TokenStage, imageHash: string): TokenSource {
  return createTokens({ length, ...(grid && { grid }), imageHash });
}

function withSignals(tokens: TokenSource, stage: TokenStage, ask: AskEngine): TokenSource {
  const signals = new Map(stage.signals.map((signal) => [signalId(signal), signal]));
  return {
    ...tokens,
    signal: async (request) => {
      const found = signals.get(signalId(request));
      if (!found) return tokens.signal(request);
      return found.values ?? ask.signal(request);
    },
    nearest: async (rows, of, k) =>
      signals.has(signalId(rows)) ? ask.nearest(rows, of, k) : tokens.nearest(rows, of, k),
  };
}
