import type { UserConfig } from 'tsdown';

/** How every package is built: ES modules and their types, nothing of a dependency inlined. */
export const library: UserConfig = {
  entry: ['src/index.ts'],
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  dts: true,
  sourcemap: true,
  fixedExtension: false,
  hash: false,
};

/** How a package's benchmarks are built: as JavaScript that runs on the built packages. */
export const benchmarks: UserConfig = {
  ...library,
  outDir: '.reports/bench',
  dts: false,
  sourcemap: false,
  deps: { neverBundle: [/^@foveate\//, 'onnx-buf', '@bufbuild/protobuf', 'onnxruntime-node'] },
};
