import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { bringsOnnxruntime } from './dependencies.js';
import { installLines, methodFolders, readmeProblems } from './readme.js';

/**
 * @typedef {object} Package
 * @property {string} folder from the root of the repository
 * @property {string} name
 * @property {any} manifest
 * @property {string} readme
 */

/** @param {string} root @returns {string[]} the folders of all workspaces, from the root */
export function workspaceFolders(root) {
  const { workspaces } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
  return workspaces.flatMap((/** @type {string} */ pattern) => {
    if (!pattern.endsWith('/*')) return [pattern];
    const parent = pattern.slice(0, -2);
    const entries = readdirSync(path.join(root, parent), { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => `${parent}/${entry.name}`);
  });
}

/** @param {string} root @returns {Package[]} the packages that are published */
export function publicPackages(root) {
  return workspaceFolders(root).flatMap((folder) => {
    const manifest = JSON.parse(readFileSync(path.join(root, folder, 'package.json'), 'utf8'));
    if (manifest.private) return [];
    const readme = readFileSync(path.join(root, folder, 'README.md'), 'utf8');
    return [{ folder, name: manifest.name, manifest, readme }];
  });
}

/** @param {string} root @param {Package} each @returns {string[]} what its README lacks */
export function missingFromReadme(root, { folder, name, manifest, readme }) {
  return readmeProblems({
    name,
    readme,
    onnxruntime: installLines(readme).flat().some(bringsOnnxruntime),
    reducer: methodFolders(readFileSync(path.join(root, 'README.md'), 'utf8')).includes(
      path.basename(folder),
    ),
    command: manifest.bin !== undefined,
  });
}
