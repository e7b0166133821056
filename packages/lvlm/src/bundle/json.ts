/** JSON objects of a bundle, and what is read of them. */
import { BundleError } from '../platform/errors.js';

/** A JSON object of which nothing is known yet. */
export type Json = Readonly<Record<string, unknown>>;

/** Whether a value is a JSON object. */
export function isJson(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A member that is an object itself; empty where it is none. */
export function memberOf(json: Json, name: string): Json {
  const value = json[name];
  return isJson(value) ? value : {};
}

/**
 * A whole number, 0 or more.
 * @param what how messages call it
 * @throws BundleError
 */
export function wholeNumber(directory: string, what: string, value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new BundleError(`${directory}: ${what} must be a whole number; it is ${shown(value)}.`);
}

/** A value of a file as a message shows it: short, whatever it is. */
export function shown(value: unknown): string {
  if (value === undefined) return 'missing';
  return typeof value === 'string' ? JSON.stringify(cut(value)) : cut(JSON.stringify(value));
}

/** A text of a file, or of a library about a file, as a message shows it. */
export function cut(text: string, length = 80): string {
  return text.length > length ? `${text.slice(0, length)}...` : text;
}

/** What a library says of a file: it may repeat what the file says. */
export function reasonOf(cause: unknown): string {
  return cut((cause as Error).message, 300);
}
