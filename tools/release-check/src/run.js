import { execFile } from 'node:child_process';

/**
 * Runs a program to its end.
 *
 * @typedef {object} Place
 * @property {string} cwd
 * @property {NodeJS.ProcessEnv} env
 * @property {AbortSignal} signal ends the program
 *
 * @param {string} command
 * @param {string[]} args
 * @param {Place} place
 * @returns {Promise<string>} what it printed to stdout
 * @throws {Error} where it fails, with all that it printed
 */
export function run(command, args, { cwd, env, signal }) {
  const limits = { timeout: 15 * 60_000, maxBuffer: 64 * 2 ** 20 };
  return new Promise((resolve, reject) => {
    execFile(command, args, { cwd, env, signal, ...limits }, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else if (signal.aborted) reject(error);
      else
        reject(
          new Error(
            `${[command, ...args].join(' ')} failed (${error.code ?? error.signal}):\n${stdout}${stderr}`,
          ),
        );
    });
  });
}
