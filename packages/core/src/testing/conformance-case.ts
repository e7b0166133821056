import { FoveateError } from '../errors.js';

/**
 * One test of a conformance suite, for any test runner: `for (const { name, run } of cases) test(name, run);`
 */
export interface ConformanceCase {
  readonly name: string;
  /** Resolves where the subject conforms, rejects where it does not. */
  readonly run: () => Promise<void>;
}

/** What was tested does not conform; the message says in what. */
export class ConformanceError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/ConformanceError');
  override readonly name = 'ConformanceError';
}

/** @throws ConformanceError with `message` where the condition does not hold */
export function ensure(condition: boolean, message: string): asserts condition {
  if (!condition) throw new ConformanceError(message);
}

/** Ensures that `action` throws or rejects with an error of that class. */
export async function ensureRejects(
  type: Pick<typeof FoveateError, 'isInstance' | 'marker' | 'prototype'>,
  action: () => unknown,
  situation: string,
): Promise<void> {
  try {
    await action();
  } catch (error) {
    ensure(
      type.isInstance(error),
      `${situation}: expected ${type.marker.description}, was thrown ${String(error)}`,
    );
    return;
  }
  throw new ConformanceError(`${situation}: expected ${type.marker.description}, nothing was thrown`);
}
