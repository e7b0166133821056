/**
 * `npm run release:check`: what users would get if every package were released now. Packs and publishes all
 * of them to a registry of its own, in a folder of its own, and tries each one alone in an empty project.
 * Names of packages as arguments: tries these alone.
 */
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { checkChangesets } from './changesets.js';
import { sizeTable } from './installation.js';
import { missingFromReadme, publicPackages, workspaceFolders } from './packages.js';
import { startRegistry } from './registry.js';
import { run } from './run.js';
import { tryPackage } from './try-package.js';
import { withVersion } from './versions.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));
/** How many packages are tried at once. */
const AT_ONCE = 4;
const interruption = new AbortController();
/** @type {Record<string, number>} */
const exitCodes = { SIGINT: 130, SIGTERM: 143 };
for (const signal of Object.keys(exitCodes)) process.on(signal, () => interruption.abort(signal));

const scratch = await mkdtemp(path.join(tmpdir(), 'foveate-release-'));
const env = cleanEnvironment();
/** @type {Awaited<ReturnType<typeof startRegistry>> | undefined} */
let registry;
try {
  const problems = await check();
  for (const problem of problems) console.error(`problem: ${problem}`);
  console.log(
    problems.length === 0
      ? '\nready for a release'
      : `\nnot ready for a release: ${problems.length} of the above`,
  );
  if (problems.length > 0) process.exitCode = 1;
} catch (error) {
  const { aborted, reason } = interruption.signal;
  console.error(aborted ? `stopped by ${reason}` : error);
  process.exitCode = aborted ? exitCodes[reason] : 1;
} finally {
  await registry?.close();
  await rm(scratch, { recursive: true, force: true, maxRetries: 5 });
}
// The registry keeps a timer that nothing can stop.
process.exit();

/** What stands in the way of a release. */
async function check() {
  const packages = publicPackages(root);
  const names = packages.map(({ name }) => name);
  const wanted = process.argv.slice(2);
  const unknown = wanted.filter((name) => !names.includes(name));
  if (unknown.length > 0)
    return [`no package of this repository is called ${unknown.join(', ')}; there are ${names.join(', ')}`];
  const tried = wanted.length === 0 ? packages : packages.filter(({ name }) => wanted.includes(name));
  const problems = packages.flatMap((each) =>
    missingFromReadme(root, each).map((problem) => `${each.name}: ${problem}`),
  );
  progress('building all packages');
  const nx = path.join(root, 'node_modules', '.bin', 'nx');
  const build = ['run-many', '--outputStyle=static-failures-only', '-t', 'build'];
  await run(nx, build, { ...(await place('build')), cwd: root });
  progress('what changesets makes of a change in core');
  const changesets = { root, folders: workspaceFolders(root), names: new Set(names) };
  problems.push(...(await checkChangesets({ ...changesets, place: await place('changesets') })));
  progress('starting a registry');
  await openRegistry(names);
  const version = `0.0.0-check.${Date.now()}`;
  progress(`publishing ${packages.length} packages as ${version}`);
  const packed = await place('packed');
  await inParallel(packages, (each) => publish(each, { version, names: new Set(names), packed }));
  problems.push(...(await tryAll(tried)));
  return problems;
}

/**
 * A new folder for a step, where programs run in a plain environment until someone interrupts.
 * @param {string} name
 */
async function place(name) {
  const cwd = path.join(scratch, name.replace('/', '-'));
  await mkdir(cwd);
  return { cwd, env, signal: interruption.signal };
}

/**
 * Starts the registry for our packages, with npm's own behind it, and makes it npm's.
 * @param {string[]} names
 */
async function openRegistry(names) {
  const setting = (/** @type {string} */ key) =>
    execFileSync('npm', ['config', 'get', key], {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  const cafile = setting('cafile');
  registry = await startRegistry({
    folder: (await place('registry')).cwd,
    uplink: setting('registry'),
    certificates: cafile === 'null' ? '' : await readFile(cafile, 'utf8'),
    names,
  });
  await writeFile(env.NPM_CONFIG_USERCONFIG, npmSettings(registry.url));
}

/**
 * Tries every package alone and prints what its examples print, and how large all of them are.
 *
 * @param {import('./packages.js').Package[]} packages
 * @returns {Promise<string[]>} problems
 */
async function tryAll(packages) {
  /** @type {string[]} */
  const problems = [];
  /** @type {Map<string, import('./installation.js').Sizes>} */
  const sizes = new Map();
  await inParallel(packages, async (each) => {
    try {
      const found = await tryPackage(each, {
        root,
        place: await place(`try-${each.name}`),
        progress: (text) => progress(`${each.name}: ${text}`),
      });
      sizes.set(each.name, found.sizes);
      problems.push(...found.problems.map((problem) => `${each.name}: ${problem}`));
      progress(`${each.name}: done, ${sizes.size} of ${packages.length}; its examples print`);
      for (const output of found.outputs) console.log(output.trimEnd().replace(/^/gm, '    '));
    } catch (error) {
      if (interruption.signal.aborted) throw error;
      problems.push(`${each.name}: ${error instanceof Error ? error.message : error}`);
    }
  });
  const inOrder = packages.flatMap(({ name }) => sizes.get(name) ?? []);
  console.log(`\n${sizeTable(inOrder)}\n`);
  return problems;
}

/**
 * The environment without npm's, git's and Node's settings, so that an installation is that of a plain
 * machine.
 */
function cleanEnvironment() {
  const settings = /^(npm_|git_|node_options$|node_path$|onnxruntime_)/i;
  const plain = Object.entries(process.env).filter(([key]) => !settings.test(key));
  return { ...Object.fromEntries(plain), NPM_CONFIG_USERCONFIG: path.join(scratch, 'npmrc') };
}

/** @param {string} url of the registry */
function npmSettings(url) {
  const token = `${url.replace('http:', '')}:_authToken=any`; // npm publishes with a token only; ours takes any
  const cache = `cache=${path.join(scratch, 'npm-cache')}`;
  return [`registry=${url}`, token, cache, 'audit=false', 'fund=false', 'update-notifier=false', ''].join(
    '\n',
  );
}

/**
 * Packs a package and publishes what was packed under another version.
 *
 * @param {{ name: string, folder: string }} each
 * @param {{ version: string, names: Set<string>, packed: import('./run.js').Place }} options
 */
async function publish({ name, folder }, { version, names, packed }) {
  const args = ['pack', '--json', '--ignore-scripts', '--pack-destination', packed.cwd];
  const [{ filename }] = JSON.parse(await run('npm', args, { ...packed, cwd: path.join(root, folder) }));
  const copy = path.join(packed.cwd, name.replace('/', '-'));
  await mkdir(copy);
  await run('tar', ['-xzf', path.join(packed.cwd, filename), '-C', copy], packed);
  const content = path.join(copy, 'package');
  const file = path.join(content, 'package.json');
  const manifest = withVersion(JSON.parse(await readFile(file, 'utf8')), version, names);
  await writeFile(file, JSON.stringify(manifest, null, 2));
  // Provenance is what only the release workflow can give.
  await run('npm', ['publish', content, '--tag', 'latest', '--no-provenance', '--ignore-scripts'], packed);
}

/**
 * Does a task for every item, some at once: most of the time each waits for another program.
 *
 * @template Item
 * @param {Item[]} items
 * @param {(item: Item) => Promise<void>} task
 */
async function inParallel(items, task) {
  const queue = [...items];
  const work = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await task(item);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

/** @param {string} text */
function progress(text) {
  const seconds = String(Math.round(process.uptime())).padStart(4);
  console.error(`${seconds} s  ${text}`);
}
