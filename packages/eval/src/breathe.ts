/** Lets a signal stop work that would otherwise hold the event loop to its end. */
import { setImmediate } from 'node:timers/promises';

/** Longest that work goes on before timers and signals get a turn. */
const TURN_MS = 50;

/**
 * To be awaited at each step of long work: now and then it gives the event loop a turn.
 * @returns rejects with the signal's reason once that was aborted
 */
export function createBreather(abortSignal?: AbortSignal): () => Promise<void> {
  let last = performance.now();
  return async () => {
    if (performance.now() - last < TURN_MS) return;
    await setImmediate();
    abortSignal?.throwIfAborted();
    last = performance.now();
  };
}
