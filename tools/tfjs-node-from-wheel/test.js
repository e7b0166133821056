/**
 * `npm run test:tfjs-node-gpu`: builds the addons of @tensorflow/tfjs-node-gpu and @tensorflow/tfjs-node, and
 * runs on each the tests that are for every backend: the conformance suites, the proof that no tensor is left
 * behind, and the runner that gives the same answers as in its graph.
 */
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildAddons } from './build.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = path.join(root, 'node_modules', '.cache', 'tfjs-node-from-wheel');

try {
  buildAddons(folder, ['tfjs-node-gpu', 'tfjs-node']);
} catch (error) {
  console.error(`The addon was not built: ${error.message}\nREADME.md beside this file says what it needs.`);
  process.exit(1);
}

const tests = { tfjs: 'src/backends.test.ts', lvlm: 'src/caller/backend-reduction.test.ts' };
const vitest = path.join(root, 'node_modules', 'vitest', 'vitest.mjs');

// One process each, because both register the backend "tensorflow".
for (const backend of ['node-gpu', 'node']) {
  for (const [name, file] of Object.entries(tests)) {
    console.log(`\n== ${backend}: packages/${name}`);
    const args = [vitest, 'run', '--config', '../../vitest.config.ts', '--reporter=default', file];
    const { status } = spawnSync(process.execPath, args, {
      cwd: path.join(root, 'packages', name),
      env: { ...process.env, FOVEATE_TFJS_BACKENDS: backend, FOVEATE_TFJS_FROM: folder },
      stdio: 'inherit',
    });
    if (status !== 0) process.exitCode = 1;
  }
}
