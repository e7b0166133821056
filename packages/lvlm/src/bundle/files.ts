/** Reads the small text files of a bundle. */
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { BundleError } from '../platform/errors.js';
import { isJson, reasonOf, type Json } from './json.js';

const MAX_BYTES = 2 ** 27;
/** Whoever walks through a value does so by recursion. */
const MAX_DEPTH = 100;

/**
 * Reads a JSON object of a bundle; null where the file is absent.
 * @throws BundleError
 */
export async function findJson(folder: string, name: string): Promise<Json | null> {
  const text = await findText(folder, name);
  if (text === null) return null;
  const file = path.join(folder, name);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new BundleError(
      `${file} cannot be read as JSON: ${reasonOf(cause)}. It is damaged or was cut short: fetch it again.`,
      { cause },
    );
  }
  if (!isJson(value)) throw new BundleError(`${file} must hold a JSON object.`);
  if (isDeeper(value, MAX_DEPTH)) throw new BundleError(`${file} is nested more than ${MAX_DEPTH} deep.`);
  return value;
}

/**
 * Reads a JSON object that every bundle has.
 * @throws BundleError
 */
export async function readJson(folder: string, name: string): Promise<Json> {
  const json = await findJson(folder, name);
  if (json) return json;
  throw new BundleError(
    `${path.join(folder, name)} is missing: ${folder} is no bundle, or an incomplete one.`,
  );
}

/**
 * Reads a text file of a bundle; null where it is absent.
 * @throws BundleError
 */
export async function findText(folder: string, name: string): Promise<string | null> {
  const file = path.join(folder, name);
  const found = await stat(file).catch(() => null);
  if (!found) return null;
  // A pipe would be waited for, and a device read for ever.
  if (!found.isFile()) throw new BundleError(`${file} is no regular file.`);
  if (found.size > MAX_BYTES)
    throw new BundleError(
      `${file} has ${found.size} bytes; a bundle's text files have at most ${MAX_BYTES}.`,
    );
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new BundleError(`${file} cannot be read: ${reasonOf(cause)}.`, { cause });
  }
}

function isDeeper(value: object, depth: number): boolean {
  let level = [value];
  for (let reached = 0; level.length > 0; reached++) {
    if (reached > depth) return true;
    level = level.flatMap((parent) => Object.values(parent).filter(isObject));
  }
  return false;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
