import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { missingFromReadme, publicPackages } from './packages.js';
import { resultsTable, withResults } from './results.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const packages = publicPackages(root);
const methods = packages.filter(({ readme }) => readme.includes('<!-- results:start -->'));

it('finds the packages that are published', () => {
  const names = packages.map(({ name }) => name);
  expect(names).toEqual(expect.arrayContaining(['@foveate/core', '@foveate/prumerge', 'foveate']));
  expect(names).not.toContain('@foveate/checks');
});

it.each(packages)('the README of $name has all its parts', (each) => {
  expect(missingFromReadme(root, each)).toEqual([]);
});

it.each(methods)(
  'the README of $name has the results of the root README (copy-results.js writes them)',
  (each) => {
    const table = resultsTable(readFileSync(`${root}/README.md`, 'utf8'), each.folder);
    expect(withResults(each.readme, table)).toBe(each.readme);
  },
);
