/** Errors between threads: `postMessage` keeps the message of an error but not its class. */
import { FoveateError, SignalUnavailableError, UnsupportedReducerError } from '@foveate/core';
import {
  BundleError,
  IdentityCheckError,
  PlatformError,
  PromptError,
  WorkerError,
} from '../platform/errors.js';

/** An error on its way to the caller's thread. */
export type SentError =
  | { readonly name: string; readonly message: string }
  | { readonly name: 'SignalUnavailableError'; readonly signal: string; readonly reason: string };

/** The classes that are made from their message, the most particular first. */
const CLASSES: ReadonlyMap<string, typeof FoveateError> = new Map<string, typeof FoveateError>(
  Object.entries({
    BundleError,
    IdentityCheckError,
    PlatformError,
    PromptError,
    UnsupportedReducerError,
    WorkerError,
    FoveateError,
  }),
);

/** What is sent of an error; anything that no part of Foveate threw on purpose becomes a WorkerError. */
export function sendError(error: unknown): SentError {
  if (SignalUnavailableError.isInstance(error)) {
    return { name: 'SignalUnavailableError', signal: error.signal, reason: error.reason };
  }
  for (const [name, type] of CLASSES) if (type.isInstance(error)) return { name, message: error.message };
  const defect = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return { name: 'WorkerError', message: `The worker failed: ${defect}` };
}

/** The error again, of its class. */
export function receiveError(sent: SentError): Error {
  if ('signal' in sent) return new SignalUnavailableError(sent.signal, sent.reason);
  const type = CLASSES.get(sent.name) ?? WorkerError;
  return new type(sent.message);
}
