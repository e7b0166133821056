import { lstat, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';

/**
 * What an installation holds, by npm's own record of it.
 *
 * @param {string} folder the project
 * @returns {Promise<string[]>} the names of the packages, each once, sorted
 */
export async function installedPackages(folder) {
  const record = await readFile(path.join(folder, 'node_modules', '.package-lock.json'), 'utf8');
  const names = Object.keys(JSON.parse(record).packages).map((place) =>
    place.replace(/^.*node_modules\//, ''),
  );
  return [...new Set(names)].sort();
}

/** @param {string} folder @returns {Promise<number>} the bytes of all files in it; links count nothing */
export async function bytesIn(folder) {
  const sizes = await Promise.all(
    (await readdir(folder, { withFileTypes: true })).map((entry) => {
      const place = path.join(folder, entry.name);
      if (entry.isDirectory()) return bytesIn(place);
      return entry.isFile() ? lstat(place).then(({ size }) => size) : 0;
    }),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

/**
 * @typedef {{ name: string, own: number, installed: number, packages: number }} Sizes own: bytes of the
 *   package; installed: bytes of all that its installation brings, so many packages
 *
 * @param {Sizes[]} rows
 * @returns {string} a table for people
 */
export function sizeTable(rows) {
  const megabytes = (/** @type {number} */ bytes) => `${(bytes / 1e6).toFixed(2)} MB`;
  const cells = [
    ['package', 'own files', 'installed', 'packages'],
    ...rows.map((row) => [row.name, megabytes(row.own), megabytes(row.installed), String(row.packages)]),
  ];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...cells.map((row) => row[column].length)));
  return cells
    .map(([name, ...numbers]) =>
      [name.padEnd(widths[0]), ...numbers.map((text, index) => text.padStart(widths[index + 1]))].join('  '),
    )
    .join('\n');
}
