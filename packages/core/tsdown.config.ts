import type { UserConfig } from 'tsdown';
import { library } from '../../tsdown.base.js';

const config: UserConfig = {
  ...library,
  entry: {
    index: 'src/index.ts',
    'registry/index': 'src/registry/index.ts',
    'testing/index': 'src/testing/index.ts',
  },
  platform: 'neutral',
};
export default config;
