import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { run } from './run.js';
import { bumpProblems, rangeProblems } from './versions.js';

/**
 * Makes the next release's versions in a copy of the manifests, changes core there, and holds what changesets
 * does against what it should.
 *
 * @param {object} options
 * @param {string} options.root of the repository
 * @param {string[]} options.folders of the workspaces, from the root
 * @param {Set<string>} options.names of the public packages
 * @param {import('./run.js').Place} options.place an empty folder
 * @returns {Promise<string[]>} problems
 */
export async function checkChangesets({ root, folders, names, place }) {
  const copy = place.cwd;
  const file = (/** @type {string} */ folder) => path.join(folder, 'package.json');
  for (const folder of ['.', ...folders]) {
    await mkdir(path.join(copy, folder), { recursive: true });
    await cp(path.join(root, file(folder)), path.join(copy, file(folder)));
  }
  await cp(path.join(root, '.changeset'), path.join(copy, '.changeset'), { recursive: true });
  await symlink(path.join(root, 'node_modules'), path.join(copy, 'node_modules'), 'junction');
  const author = ['-c', 'user.name=check', '-c', 'user.email=check@localhost', '-c', 'commit.gpgsign=false'];
  await writeFile(path.join(copy, '.gitignore'), 'node_modules\n');
  await run('git', ['init', '--quiet', '--initial-branch=main'], place);
  await run('git', ['add', '.'], place);
  await run('git', [...author, 'commit', '--quiet', '--message', 'before'], place);

  const cli = path.join(root, 'node_modules', '@changesets', 'cli', 'bin.js');
  const version = async () => {
    await run(process.execPath, [cli, 'version'], place);
    const all = await Promise.all(
      folders.map(async (folder) => JSON.parse(await readFile(path.join(copy, file(folder)), 'utf8'))),
    );
    return all.filter((manifest) => names.has(manifest.name));
  };
  const problems = [];
  let before = await version();
  problems.push(...inStep(before));
  for (const level of /** @type {const} */ (['patch', 'minor', 'major'])) {
    const text = `---\n'@foveate/core': ${level}\n---\n\nA change.\n`;
    await writeFile(path.join(copy, '.changeset', 'change-of-core.md'), text);
    const after = await version();
    problems.push(...bumpProblems({ before, after, name: '@foveate/core', level }), ...inStep(after));
    before = after;
  }
  return problems;
}

/** @param {import('./versions.js').Manifest[]} manifests */
function inStep(manifests) {
  return rangeProblems(manifests, new Map(manifests.map(({ name, version }) => [name, version])));
}
