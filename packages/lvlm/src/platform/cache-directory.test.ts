import type * as Os from 'node:os';
import { afterEach, expect, test, vi } from 'vitest';
import { FIXTURE } from '../../test/bundles.js';
import { Lvlm } from '../index.js';

afterEach(() => {
  vi.unstubAllEnvs();
  vi.doUnmock('node:os');
  vi.resetModules();
});

const noCacheFolders = (): void => {
  for (const name of ['XDG_CACHE_HOME', 'LOCALAPPDATA']) vi.stubEnv(name, undefined);
};

test.skipIf(process.platform === 'win32')('a process without a home goes on, and says so', async () => {
  noCacheFolders();
  vi.stubEnv('HOME', '');
  await using model = await Lvlm.load(FIXTURE);
  const { tokenIds, warnings } = await model.generate({ prompt: 'x', maxNewTokens: 2 });
  expect(tokenIds).toHaveLength(2);
  expect(warnings).toEqual([expect.stringMatching(/no home folder.*set HOME or XDG_CACHE_HOME/)]);
});

test('a user that the system does not know has no cache folder', async () => {
  noCacheFolders();
  vi.doMock('node:os', async (original) => ({
    ...(await original<typeof Os>()),
    homedir: () => {
      throw new Error('A system error occurred: uv_os_homedir returned ENOENT'); // needs another user to happen
    },
  }));
  vi.resetModules();
  const { defaultCacheDirectory } = await import('./cache-directory.js');
  expect(defaultCacheDirectory()).toBeNull();
});
