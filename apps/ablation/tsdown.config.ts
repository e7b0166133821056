import type { UserConfig } from 'tsdown';
import { library } from '../../tsdown.base.js';

const config: UserConfig = { ...library, entry: ['src/cli.ts'], dts: false };
export default config;
