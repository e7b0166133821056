import type { UserConfig } from 'tsdown';
import { library } from '../../tsdown.base.js';

/** Benchmarks run as JavaScript, on the built packages. */
const config: UserConfig = {
  ...library,
  entry: ['bench/*.ts'],
  outDir: '.reports/bench',
  dts: false,
  sourcemap: false,
  deps: { neverBundle: [/^@foveate\//, 'onnx-buf', '@bufbuild/protobuf'] },
};
export default config;
