import type { UserConfig } from 'tsdown';
import { library } from '../../tsdown.base.js';

/**
 * The worker thread's entry. Node cannot start a worker from TypeScript, so this one file is built before any
 * test; it carries the other packages of this repository inside, from source, so that none of them has to be
 * built for it.
 */
const config: UserConfig = {
  ...library,
  entry: { worker: 'src/platform/node-worker.ts' },
  dts: false,
  clean: ['dist/worker.js', 'dist/worker.js.map'],
  deps: { alwaysBundle: [/^@foveate\//] },
  inputOptions: { resolve: { conditionNames: ['@foveate/source', 'node', 'import', 'default'] } },
};
export default config;
