import type { ViteUserConfig } from 'vitest/config';

/** Tests import the sources of every package, so none of them has to be built first. */
const conditions = ['@foveate/source', 'node', 'import', 'module', 'default'];

const config: ViteUserConfig = {
  resolve: { conditions },
  ssr: { resolve: { conditions, externalConditions: conditions } },
  test: {
    env: { ORT_DISABLE_TELEMETRY: '1' }, // for the tests that open sessions themselves; the runner sets it on its own
    include: ['**/src/**/*.test.{ts,js}'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    maxWorkers: 2,
    passWithNoTests: true,
    reporters: ['default', ['json', { outputFile: '.reports/vitest.json' }]],
  },
};
export default config;
