/** The two interfaces of api.ts over a pair of message ports; both threads use it. */
import { createBirpc, type BirpcReturn } from 'birpc';
import { receiveError, sendError, type SentError } from './error-transfer.js';

/** One end of a connection between threads. */
export interface Port {
  post(message: unknown): void;
  listen(listener: (message: unknown) => void): void;
}

/** Calls of the other thread's functions. */
export type Remote<Functions extends object, Own extends object> = BirpcReturn<Functions, Own>;

/** What birpc sends of an error; `postMessage` would keep its message but not its class. */
interface Reply {
  e?: unknown;
}

/**
 * Connects this thread's functions with those of the other.
 * @param events names of the other's functions that answer nothing
 */
export function connect<Functions extends object, Own extends object>(
  port: Port,
  own: Own,
  events: (keyof Functions)[] = [],
): Remote<Functions, Own> {
  return createBirpc<Functions, Own>(own, {
    post: (message) => {
      port.post(message);
    },
    on: (listener) => {
      port.listen(listener);
    },
    serialize: (message: Reply) => ('e' in message ? { ...message, e: sendError(message.e) } : message),
    deserialize: (message: Reply) =>
      'e' in message ? { ...message, e: receiveError(message.e as SentError) } : message,
    bind: 'functions',
    eventNames: events,
    timeout: -1, // a model may take as long as it takes
  });
}
