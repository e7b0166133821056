import { FoveateError } from '@foveate/core';
import { CommanderError } from 'commander';
import { Interrupted } from './interruption.js';
import { print } from './output.js';
import { createProgram } from './program.js';

/**
 * Runs the command.
 * @param args without the program's name
 * @returns the exit code: 0; 2 where the user can mend what is wrong, e.g. that stdout is full or closed;
 * 128 + the signal where one stopped it; 1 on a defect
 */
export async function main(args: readonly string[]): Promise<number> {
  try {
    await run(args);
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return 2; // it has said so itself
    if (error instanceof Interrupted) return error.exitCode;
    if (FoveateError.isInstance(error)) {
      process.stderr.write(`foveate: ${error.message}\n`);
      return 2;
    }
    process.stderr.write(
      `foveate: a defect; please report it.\n${(error as Error).stack ?? String(error)}\n`,
    );
    return 1;
  }
}

async function run(args: readonly string[]): Promise<void> {
  try {
    await createProgram().parseAsync(args, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError && error.exitCode === 0)) throw error; // it was the help or the version
  }
  await print('');
}
