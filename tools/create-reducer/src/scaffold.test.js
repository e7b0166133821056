import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NameError, renderPackage, scaffold } from './scaffold.js';

const repository = fileURLToPath(new URL('../../..', import.meta.url));
const packages = path.join(repository, 'packages');
const read = (...names) => readFileSync(path.join(repository, ...names), 'utf8');

/** What is never copied: made by tools, or the weights and images of the model. */
const left = /(^|\/)(node_modules|dist|\.reports|fixtures|tiny-llava\/(model|data))$/;

/** Packages with one method each, and those beside them that are built the same way. */
const methods = { 'fopru-rank': 'vision', 'fopru-row': 'vision', fastv: 'language' };
const alike = [...Object.keys(methods), 'fopru-significance', 'pooling', 'prumerge'];

describe('the template is what the packages are', () => {
  it.each(Object.entries(methods))('files of %s', (name, stage) => {
    const there = listFiles(path.join(packages, name)).filter((file) => file !== 'CHANGELOG.md');
    expect([...renderPackage(repository, name, stage).keys()].sort()).toEqual(there);
  });

  it.each(alike)('manifest and configuration of %s', (name) => {
    const files = renderPackage(repository, name, 'vision');
    const own = JSON.parse(read('packages', name, 'package.json'));
    const { version, description, dependencies } = own;
    const rendered = { ...JSON.parse(files.get('package.json')), version, description };
    expect(Object.keys(rendered)).toEqual(Object.keys(own));
    expect(dependencies).toMatchObject(rendered.dependencies);
    expect({ ...rendered, dependencies }).toEqual(own);
    for (const file of ['LICENSE', 'tsconfig.json', 'tsdown.config.ts'])
      expect(files.get(file)).toBe(read('packages', name, file));
  });
});

describe('create-reducer', () => {
  let root;
  let before;
  beforeAll(() => {
    root = copyOfCheckout();
    before = snapshot();
  });
  afterAll(() => rmSync(root, { recursive: true }));

  /** Runs the command in the copy. */
  function create(...args) {
    const tool = path.join(root, 'tools/create-reducer/src/create-reducer.js');
    return spawnSync(process.execPath, [tool, ...args], { cwd: root, encoding: 'utf8' });
  }

  /** Runs a tool of the copy; a failure shows what it printed. */
  function run(folder, tool, ...args) {
    const command = path.join(root, 'node_modules/.bin', tool);
    const { status, stdout, stderr } = spawnSync(command, args, {
      cwd: path.join(root, folder),
      encoding: 'utf8',
    });
    expect({ status, output: status === 0 ? '' : stdout + stderr }).toEqual({ status: 0, output: '' });
    return stdout;
  }

  const snapshot = () =>
    new Map(listFiles(root).map((file) => [file, readFileSync(path.join(root, file), 'utf8')]));

  it.each([
    ['MyMethod', 'NAME must be in kebab-case'],
    ['my_method', 'NAME must be in kebab-case'],
    ['my--method', 'NAME must be in kebab-case'],
    ['2d', 'NAME must be in kebab-case'],
    ['../evil', 'NAME must be in kebab-case'],
    ['/tmp/evil', 'NAME must be in kebab-case'],
    ['a\n', 'NAME must be in kebab-case'],
    ['a'.repeat(41), 'at most 40'],
    ['fopru-rank', 'packages/fopru-rank is already there'],
    ['checks', 'a workspace has the name @foveate/checks already'],
    ['prumerge-plus', 'the foveate command knows another prumerge-plus already'],
    ['none', 'the foveate command knows another none already'],
    ['features', "features would need features, which is another's name"],
  ])('refuses %j', async (name, message) => {
    await expect(scaffold(root, name, 'vision')).rejects.toThrow(NameError);
    await expect(scaffold(root, name, 'vision')).rejects.toThrow(message);
  });

  it('leaves nothing behind, neither then nor where it fails half-way', async () => {
    expect(snapshot()).toEqual(before);
    const registry = path.join(root, 'apps/ablation/src/registry.ts');
    const broken = 'import {\n' + readFileSync(registry, 'utf8'); // prettier cannot write it, after the package was
    writeFileSync(registry, broken);
    await expect(scaffold(root, 'my-method', 'vision')).rejects.toThrow();
    expect(snapshot()).toEqual(new Map(before).set('apps/ablation/src/registry.ts', broken));
    writeFileSync(registry, before.get('apps/ablation/src/registry.ts'));
  });

  it.each([
    [[], 'one NAME is needed'],
    [['../evil'], 'NAME must be in kebab-case'],
    [['a', '--stage', 'audio'], '--stage must be vision or language; received "audio"'],
  ])('ends with 2 on %j', (args, message) => {
    const { status, stdout, stderr } = create(...args);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toContain(message);
  });

  it('--help', () => {
    const { status, stdout } = create('--help');
    expect({ status, first: stdout.split('\n')[0] }).toEqual({
      status: 0,
      first: 'Usage: npm run create-reducer -- NAME [--stage vision|language] [--no-install]',
    });
  });

  it('makes packages that build, conform, lint, and are listed by the command', () => {
    const made = { 'my-method': 'vision', 'other-2': 'language' };
    for (const [name, stage] of Object.entries(made)) {
      const { status, stdout, stderr } = create(name, '--stage', stage, '--no-install');
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(stdout).toContain(`npx vitest run packages/${name}`);
      symlinkSync(path.join(root, 'packages', name), path.join(root, 'node_modules/@foveate', name));
    }

    const after = snapshot();
    const touched = [...after].filter(([file, text]) => before.get(file) !== text).map(([file]) => file);
    const own = Object.entries(made).flatMap(([name, stage]) => [
      `.changeset/first-${name}.md`,
      ...[...renderPackage(root, name, stage).keys()].map((file) => `packages/${name}/${file}`),
    ]);
    expect(touched.sort()).toEqual(
      [...own, 'apps/ablation/package.json', 'apps/ablation/src/registry.ts'].sort(),
    );

    run('.', 'prettier', '--check', ...touched.filter((file) => !file.endsWith('LICENSE')));
    const typescript = touched.filter((file) => /^packages\/.*\.ts$/.test(file));
    run('.', 'eslint', ...typescript);
    for (const name of Object.keys(made)) run(`packages/${name}`, 'tsc');
    run('apps/ablation', 'tsc');
    run('.', 'vitest', 'run', ...Object.keys(made).map((name) => `packages/${name}/`));
    const report = JSON.parse(readFileSync(path.join(root, '.reports/vitest.json'), 'utf8'));
    expect(report.numFailedTests).toBe(0);
    expect(report.numPassedTests).toBeGreaterThan(40); // the conformance suite, twice
    for (const name of ['core', ...Object.keys(made)])
      run(`packages/${name}`, 'tsdown', '--log-level', 'warn');
    for (const name of Object.keys(made)) {
      const check = path.join(root, 'tools/checks/src/check-package.js');
      const printed = execFileSync(process.execPath, [check], {
        cwd: path.join(root, 'packages', name),
        encoding: 'utf8',
      });
      expect(printed).toContain(`@foveate/${name}: `);
    }

    const methods = run('.', 'tsx', '--conditions=@foveate/source', 'apps/ablation/src/cli.ts', 'methods');
    for (const name of Object.keys(made)) expect(methods).toContain(`\n${name}: `);
  }, 300_000);
});

/** The files under a folder, without what tools have made there; sorted. */
function listFiles(folder) {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => !left.test(path.join(folder, entry.name)) && !entry.isSymbolicLink())
    .flatMap((entry) =>
      entry.isDirectory()
        ? listFiles(path.join(folder, entry.name)).map((file) => `${entry.name}/${file}`)
        : [entry.name],
    )
    .sort();
}

/** The checkout in a temporary folder, its dependencies linked and its workspaces its own. */
function copyOfCheckout() {
  const copy = realpathSync(mkdtempSync(path.join(tmpdir(), 'foveate-scaffold-')));
  const parts = ['.changeset', 'apps', 'packages', 'tools/api-docs', 'tools/checks', 'tools/create-reducer'];
  const files = readdirSync(repository).filter((name) => /\.(js|ts|json)$/.test(name));
  for (const part of [...parts, ...files, '.prettierignore'])
    cpSync(path.join(repository, part), path.join(copy, part), {
      recursive: true,
      filter: (source) => !left.test(source),
    });
  linkAll(path.join(repository, 'node_modules'), path.join(copy, 'node_modules'), /^@foveate$|^foveate$/);
  mkdirSync(path.join(copy, 'node_modules/@foveate'));
  for (const name of readdirSync(path.join(copy, 'packages')))
    symlinkSync(path.join(copy, 'packages', name), path.join(copy, 'node_modules/@foveate', name));
  for (const folder of ['apps', 'packages'].flatMap((parent) =>
    readdirSync(path.join(copy, parent)).map((name) => `${parent}/${name}`),
  )) {
    const own = path.join(repository, folder, 'node_modules');
    if (existsSync(own)) symlinkSync(own, path.join(copy, folder, 'node_modules'));
  }
  return copy;
}

/** Links everything in one folder into another. */
function linkAll(from, to, except) {
  mkdirSync(to);
  for (const name of readdirSync(from))
    if (!except.test(name) && name !== '.cache' && name !== '.vite')
      symlinkSync(path.join(from, name), path.join(to, name));
}
