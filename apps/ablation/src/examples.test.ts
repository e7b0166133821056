/** The command lines of the README and of the helps run word for word where the package is installed. */
import { execFile } from 'node:child_process';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { COMMAND, foveateHere, temporaryFolder } from '../test/run.js';

const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8');
const blocks = [...readme.matchAll(/```sh\n(.*?)```/gs)].map(([, block]) => block);
const helps = await Promise.all(['ablate', 'ask', 'report'].map((name) => foveateHere([name, '--help'])));
const lines = [...blocks, ...helps.map(({ stdout }) => stdout)]
  .flatMap((text) => text.split('\n'))
  .filter((line) => /^ *(npx )?foveate /.test(line))
  .map((line) => line.trim().replace(/^npx /, ''));
// Whole comparisons take minutes, and differ from the others in the number of their questions alone.
const whole = ['foveate ablate', 'foveate ablate --preset methods --out methods'];
const examples = new Set(lines.filter((line) => !whole.includes(line)));

/** A run in the folder out: the first questions that every run with this seed asks. */
const RUN = 'foveate ablate --reducers none,fopru-rank --keep 0.25 --limit 8 --out out';

/** A folder in which the package is installed, so to speak. */
async function installation(): Promise<string> {
  const folder = await temporaryFolder();
  await symlink(
    fileURLToPath(new URL('../../../node_modules', import.meta.url)),
    path.join(folder, 'node_modules'),
  );
  await mkdir(path.join(folder, 'bin'));
  const command = COMMAND.map((word) => `'${word}'`).join(' ');
  await writeFile(path.join(folder, 'bin', 'foveate'), `#!/bin/sh\nexec ${command} "$@"\n`, { mode: 0o755 });
  return folder;
}

it('there are some', () => {
  expect(lines.length).toBeGreaterThan(examples.size); // the README's are among the helps'
  expect(examples.size).toBeGreaterThanOrEqual(4);
});

it.each([...examples])(
  '%s',
  async (line) => {
    const folder = await installation();
    const PATH = `${path.join(folder, 'bin')}:${process.env.PATH ?? ''}`;
    // A report is of a run, so there is one.
    const command = line.startsWith('foveate report out') ? `${RUN} && ${line}` : line;
    const { stdout } = await promisify(execFile)('sh', ['-c', command], {
      cwd: folder,
      env: { ...process.env, PATH },
    });
    expect(stdout).not.toBe('');
  },
  300_000,
);
