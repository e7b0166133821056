import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import prettier from 'prettier';
import ts from 'typescript';

export const stages = ['vision', 'language'];

/** The name, or the stage, will not do. */
export class NameError extends Error {}

const template = fileURLToPath(new URL('../template', import.meta.url));

/**
 * Writes packages/NAME and its changeset, and registers it with the command. Where anything fails, all of it
 * is undone.
 *
 * @param {string} root of the checkout
 * @param {string} name in kebab-case
 * @param {string} stage one of {@link stages}
 * @returns {Promise<{ files: string[], undo: () => void }>} what was written, from the root, and how to take
 * it back
 * @throws {NameError} before anything is written
 */
export async function scaffold(root, name, stage) {
  checkName(root, name);
  const folder = path.join('packages', name);
  /** @type {Map<string, string>} */
  const texts = new Map();
  for (const [file, text] of renderPackage(root, name, stage)) texts.set(path.join(folder, file), text);
  texts.set(path.join('.changeset', `first-${name}.md`), render('common/changeset.md', name));
  for (const [file, text] of registration(root, name)) texts.set(file, text);

  /** @type {Map<string, string>} */
  const before = new Map();
  const undo = () => {
    for (const file of texts.keys()) {
      const text = before.get(file);
      if (text === undefined) rmSync(path.join(root, file), { force: true });
      else writeFileSync(path.join(root, file), text);
    }
    rmSync(path.join(root, folder), { recursive: true, force: true });
  };
  for (const file of texts.keys()) {
    if (existsSync(path.join(root, file))) before.set(file, readFileSync(path.join(root, file), 'utf8'));
  }
  try {
    for (const [file, text] of texts) await write(path.join(root, file), text);
  } catch (error) {
    undo();
    throw error;
  }
  return { files: [...texts.keys()], undo };
}

/**
 * The package as the template has it.
 *
 * @param {string} root @param {string} name @param {string} stage
 * @returns {Map<string, string>} path inside the package -> text
 */
export function renderPackage(root, name, stage) {
  const files = new Map();
  for (const part of ['common', stage]) {
    for (const file of readdirSync(path.join(template, part), { recursive: true, encoding: 'utf8' })) {
      if (!/\.|LICENSE/.test(file) || file === 'changeset.md') continue;
      files.set(file.replace('my-method', name), render(path.join(part, file), name));
    }
  }
  const manifest = JSON.parse(files.get('package.json'));
  manifest.description = files.get('README.md').split('\n')[2];
  manifest.dependencies['@foveate/core'] = `^${readManifest(path.join(root, 'packages/core')).version}`;
  files.set('package.json', JSON.stringify(manifest, undefined, 2) + '\n');
  return files;
}

/**
 * The files of the command that must know the method, with it.
 *
 * @param {string} root @param {string} name
 * @returns {Map<string, string>}
 */
function registration(root, name) {
  const app = path.join('apps', 'ablation');
  const registry = path.join(app, 'src', 'registry.ts');
  const manifest = readManifest(path.join(root, app));
  const dependencies = { ...manifest.dependencies, [`@foveate/${name}`]: '^0.0.0' };
  manifest.dependencies = Object.fromEntries(
    Object.entries(dependencies).sort(([a], [b]) => (a < b ? -1 : 1)),
  );

  const text = readFileSync(path.join(root, registry), 'utf8');
  const { imports, entries } = registryPlaces(text);
  const entry = substitute('myMethodEntry', name);
  const imported = `\nimport { ${entry} } from '@foveate/${name}';`;
  return new Map([
    [path.join(app, 'package.json'), JSON.stringify(manifest, undefined, 2) + '\n'],
    [
      registry,
      text.slice(0, imports) +
        imported +
        text.slice(imports, entries) +
        `\n    ${entry},` +
        text.slice(entries),
    ],
  ]);
}

/**
 * Where an import and an entry can be put in: behind the last of each.
 *
 * @param {string} text of registry.ts
 */
function registryPlaces(text) {
  const source = ts.createSourceFile('registry.ts', text, ts.ScriptTarget.Latest, true);
  const imports = source.statements.filter(ts.isImportDeclaration).at(-1)?.getEnd();
  const behind = /(?<=,)\s*\],\s*\[[^\]]*\],?\s*\);\s*$/.exec(text); // the end of the methods, and all modifiers
  if (imports === undefined || behind === null)
    throw new Error(
      'apps/ablation/src/registry.ts has no imports, or does not end with the methods and modifiers of createRegistry',
    );
  return { imports, entries: behind.index };
}

/** @param {string} root @param {string} name */
function checkName(root, name) {
  if (!/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/.test(name) || name.length > 40) {
    throw new NameError(
      `NAME must be in kebab-case (a-z, 0-9, single hyphens; a letter first; at most 40), e.g. class-attention; received ${JSON.stringify(name)}`,
    );
  }
  if (existsSync(path.join(root, 'packages', name))) throw new NameError(`packages/${name} is already there`);
  const changeset = path.join('.changeset', `first-${name}.md`);
  if (existsSync(path.join(root, changeset))) throw new NameError(`${changeset} is already there`);
  if (workspaceNames(root).includes(`@foveate/${name}`))
    throw new NameError(`a workspace has the name @foveate/${name} already`);
  const registry = readFileSync(path.join(root, 'apps/ablation/src/registry.ts'), 'utf8');
  if (name === 'none' || registry.includes(substitute('myMethodEntry', name)))
    throw new NameError(`the foveate command knows another ${name} already`);
  const known = registry + readFileSync(path.join(root, 'packages/core/src/index.ts'), 'utf8');
  for (const identifier of ['myMethod', 'MyMethodOptions', 'myMethodEntry']) {
    const own = substitute(identifier, name);
    if (new RegExp(`\\b${own}\\b`).test(known))
      throw new NameError(`${name} would need ${own}, which is another's name`);
  }
}

/** @param {string} root */
function workspaceNames(root) {
  return ['packages', 'apps', 'tools']
    .flatMap((parent) => readdirSync(path.join(root, parent)).map((each) => path.join(root, parent, each)))
    .filter((folder) => existsSync(path.join(folder, 'package.json')))
    .map((folder) => readManifest(folder).name);
}

/** @param {string} folder */
function readManifest(folder) {
  return JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'));
}

/** @param {string} file in the template @param {string} name */
function render(file, name) {
  return substitute(readFileSync(path.join(template, file), 'utf8'), name);
}

/** @param {string} text @param {string} name */
function substitute(text, name) {
  const pascal = name.replace(/(?:^|-)([a-z0-9])/g, (_, letter) => letter.toUpperCase());
  return text
    .replaceAll('my-method', name)
    .replaceAll('MyMethod', pascal)
    .replaceAll('myMethod', pascal[0].toLowerCase() + pascal.slice(1));
}

/** Writes a text as prettier would. @param {string} file @param {string} text */
async function write(file, text) {
  mkdirSync(path.dirname(file), { recursive: true });
  const { inferredParser } = await prettier.getFileInfo(file);
  const style = { ...(await prettier.resolveConfig(file)), filepath: file };
  writeFileSync(file, inferredParser === null ? text : await prettier.format(text, style));
}
