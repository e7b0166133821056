import { mkdir, readdir } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { temporaryFolder } from '../../test/bundles.js';
import { runChild } from '../../test/child.js';

/** Files under a folder, by their paths in it; the pipes that tsx opens are none. */
async function filesUnder(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)));
}

test('a process that runs a model leaves verdicts of our own check behind, and nothing else', async () => {
  const folder = await temporaryFolder();
  const of = (name: string): string => path.join(folder, name);
  for (const name of ['home', 'cache', 'temporary']) await mkdir(of(name));
  const { code, stdout, stderr } = await runChild(
    `const { atFeatures, defineReducer, identityPlan } = await import(${JSON.stringify(import.meta.resolve('@foveate/core'))});
    const at = [atFeatures];
    const reducer = defineReducer({ name: 'all', at, requires: {}, plan: async ({ length }) => identityPlan(length) });
    await using model = await Lvlm.load(bundle);
    const image = { data: new Uint8Array(64 * 64), width: 64, height: 64, channels: 1 };
    const { tokenIds } = await model.generate({ images: [image], prompt: 'x', reducers: [reducer], maxNewTokens: 3 });
    console.log([tokenIds.length, process.env.ORT_DISABLE_TELEMETRY].join(" "));`,
    {
      env: {
        HOME: of('home'),
        XDG_CACHE_HOME: of('cache'),
        LOCALAPPDATA: of('cache'),
        TMPDIR: of('temporary'),
        TEMP: of('temporary'),
        TMP: of('temporary'),
        ORT_DISABLE_TELEMETRY: undefined,
      },
    },
  );
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '3 1\n', stderr: '' });
  expect(await filesUnder(folder)).toEqual([expect.stringMatching(/foveate.*identity.[0-9a-f]{64}\.json$/)]);
});

test("the user's own setting stays", async () => {
  const { stdout } = await runChild(
    `await using model = await Lvlm.load(bundle);
    console.log(JSON.stringify(process.env.ORT_DISABLE_TELEMETRY));`,
    { env: { ORT_DISABLE_TELEMETRY: '' } },
  );
  expect(stdout).toBe('""\n');
});
