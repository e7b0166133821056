import type { UserConfig } from 'tsdown';
import { library } from '../../tsdown.base.js';

/** The worker beside it comes from tsdown.worker.config.ts and stays. */
const config: UserConfig = { ...library, clean: ['dist/*', '!dist/worker.js', '!dist/worker.js.map'] };
export default config;
