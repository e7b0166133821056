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

/** A value as a message shows it: short. */
function shown(value: unknown): string {
  if (value === undefined) return 'missing';
  const text = JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 80)}...` : text;
}
