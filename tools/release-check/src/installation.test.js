import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { bytesIn, installedPackages, sizeTable } from './installation.js';
import { ownTypeProblem } from './try-package.js';

/** An empty folder, gone after the test. */
async function emptyFolder() {
  const folder = await mkdtemp(path.join(tmpdir(), 'foveate-test-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  return folder;
}

it('installedPackages names each package once, those inside others too', async () => {
  const folder = await emptyFolder();
  await mkdir(path.join(folder, 'node_modules'));
  const packages = {
    'node_modules/@foveate/core': {},
    'node_modules/b': {},
    'node_modules/b/node_modules/@img/c': {},
    'node_modules/d/node_modules/b': {},
  };
  await writeFile(path.join(folder, 'node_modules', '.package-lock.json'), JSON.stringify({ packages }));
  expect(await installedPackages(folder)).toEqual(['@foveate/core', '@img/c', 'b']);
});

it('bytesIn adds up files at any depth, and no links', async () => {
  const folder = await emptyFolder();
  await mkdir(path.join(folder, 'a', 'b'), { recursive: true });
  await writeFile(path.join(folder, 'x'), '123');
  await writeFile(path.join(folder, 'a', 'b', 'y'), '4567');
  await symlink(path.join(folder, 'x'), path.join(folder, 'a', 'link'));
  expect(await bytesIn(folder)).toBe(7);
});

it('sizeTable has sizes in megabytes, in columns', () => {
  const rows = [{ name: '@foveate/core', own: 123_456, installed: 20_000_000, packages: 12 }];
  expect(sizeTable(rows)).toBe(
    ['package        own files  installed  packages', '@foveate/core    0.12 MB   20.00 MB        12'].join(
      '\n',
    ),
  );
});

it.each([
  ['example-1.ts(3,7): error TS2322: Type ...', true],
  ['node_modules/@foveate/core/dist/index.d.ts(1,1): error TS2307: Cannot find', true],
  ['node_modules/@webgpu/types/dist/index.d.ts(1,1): error TS2717: Subsequent', false],
  ['  The expected type comes from property', false],
])('ownTypeProblem: %s', (line, expected) => {
  expect(ownTypeProblem(line)).toBe(expected);
});
