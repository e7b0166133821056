/**
 * Builds the foveate command and the packages it needs, before an npm script that runs it: one line on
 * stderr, so that what follows is the command's own output, and all that the build said where it fails.
 */
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const nx = createRequire(import.meta.url).resolve('nx/bin/nx.js');

process.stderr.write('Building foveate and the packages it needs (what did not change is kept) ...\n');
const { status, stdout, stderr } = spawnSync(
  process.execPath,
  [nx, 'run', 'foveate:build', '--outputStyle=static'],
  { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 28 },
);
if (status !== 0) {
  process.stderr.write(`${stdout}${stderr}`);
  process.exitCode = status ?? 1;
}
