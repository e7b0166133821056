/** Ctrl-C and its kin: the work ends in order, and the process with the code that shells expect. */
import { constants } from 'node:os';

/** The process was asked to stop. */
export class Interrupted extends Error {
  override readonly name = 'Interrupted';
  /** 128 + the signal's number. */
  readonly exitCode: number;

  constructor(signal: 'SIGINT' | 'SIGTERM') {
    super(`Stopped by ${signal}.`);
    this.exitCode = 128 + constants.signals[signal];
  }
}

/**
 * Aborts with {@link Interrupted} at the first SIGINT or SIGTERM; a second one ends the process at once.
 * `release` ends the watch.
 */
export function abortOnSignals(): { abortSignal: AbortSignal; release: () => void } {
  const controller = new AbortController();
  const release = (): void => {
    for (const signal of signals) process.off(signal, stop);
  };
  const stop = (signal: (typeof signals)[number]): void => {
    release();
    controller.abort(new Interrupted(signal));
  };
  for (const signal of signals) process.on(signal, stop);
  return { abortSignal: controller.signal, release };
}

const signals = ['SIGINT', 'SIGTERM'] as const;
