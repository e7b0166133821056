import type { UserConfig } from 'tsdown';
import { benchmarks } from '../../tsdown.base.js';

const config: UserConfig = { ...benchmarks, entry: ['bench/first-token.ts'] };
export default config;
