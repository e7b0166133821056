/** Errors between threads: `postMessage` keeps the message of an error but not its class. */
import type { FoveateError } from '@foveate/core';
import { SignalUnavailableError } from '@foveate/core';
import { BundleError, IdentityCheckError, PlatformError, PromptError, WorkerError } from './errors.js';

/** An error on its way to the caller's thread. */
export interface SentError {
  readonly name: string;
  readonly message: string;
  /** Of SignalUnavailableError. */
  readonly signal?: string;
}

const CLASSES: ReadonlyMap<string, typeof FoveateError> = new Map<string, typeof FoveateError>(
  Object.entries({ BundleError, IdentityCheckError, PlatformError, PromptError, WorkerError }),
);

/** What is sent of an error; anything that no part of Foveate threw on purpose becomes a WorkerError. */
export function sendError(error: unknown): SentError {
  if (SignalUnavailableError.isInstance(error))
    return { name: error.name, message: error.message, signal: error.signal };
  for (const [name, type] of CLASSES) if (type.isInstance(error)) return { name, message: error.message };
  return {
    name: 'WorkerError',
    message: `The worker failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
  };
}

/** The error again, of its class. */
export function receiveError({ name, message, signal }: SentError): Error {
  // Its constructor writes the part before the first colon itself.
  if (signal !== undefined)
    return new SignalUnavailableError(signal, message.slice(message.indexOf(': ') + 2));
  const type = CLASSES.get(name) ?? WorkerError;
  return new type(message);
}
