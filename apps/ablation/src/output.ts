/**
 * What the command prints on stdout: it is told where that goes nowhere, as on a full disk or into a pipe
 * that nobody reads.
 */
import { FoveateError } from '@foveate/core';

/** What was printed did not arrive. */
class OutputError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/OutputError');
  override readonly name = 'OutputError';
}

/**
 * Prints a text; of an empty one, what was printed before.
 * @returns when the system has it
 * @throws OutputError
 */
export async function print(text: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    process.stdout.write(text, (failure) => {
      const cause = process.stdout.errored ?? failure; // a stream that failed before says only that it is closed
      if (!cause) resolve();
      else reject(new OutputError(`stdout cannot be written: ${cause.message}.`, { cause }));
    });
  });
}
