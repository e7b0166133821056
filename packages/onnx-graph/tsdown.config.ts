import type { UserConfig } from 'tsdown';
import { library } from '../../tsdown.base.js';

const config: UserConfig = { ...library, entry: ['src/index.ts', 'src/files.ts'] };
export default config;
