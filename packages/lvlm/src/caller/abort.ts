/**
 * Waits for abort signals with one listener each, however many calls are queued with it: Node warns of a leak
 * where there are more than ten.
 */

/** What happens when a signal is aborted. */
interface Waiting {
  readonly listeners: Set<() => void>;
  readonly run: () => void;
}

const waiting = new WeakMap<AbortSignal, Waiting>();

/**
 * Calls `listener` once the signal is aborted; at once where it is.
 * @returns a function that ends the waiting
 */
export function onAbort(signal: AbortSignal, listener: () => void): () => void {
  if (signal.aborted) {
    listener();
    return () => undefined;
  }
  const { listeners, run } = waiting.get(signal) ?? listenTo(signal);
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
    if (listeners.size > 0) return;
    signal.removeEventListener('abort', run);
    waiting.delete(signal);
  };
}

function listenTo(signal: AbortSignal): Waiting {
  const listeners = new Set<() => void>();
  const run = (): void => {
    for (const listener of [...listeners]) listener();
  };
  signal.addEventListener('abort', run, { once: true });
  const made = { listeners, run };
  waiting.set(signal, made);
  return made;
}

/** The promise, or the signal's reason as soon as it is aborted; what the promise is of goes on. */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = onAbort(signal, () => {
      reject(signal.reason as Error);
    });
    promise.then(resolve, reject).finally(stop);
  });
}
