/** Copies the results of the root README's table of methods into the READMEs of the methods' packages. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { publicPackages } from './packages.js';
import { resultsTable, withResults } from './results.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const results = readFileSync(path.join(root, 'README.md'), 'utf8');
for (const { folder, readme } of publicPackages(root)) {
  if (!readme.includes('<!-- results:start -->')) continue;
  writeFileSync(path.join(root, folder, 'README.md'), withResults(readme, resultsTable(results, folder)));
  console.log(`${folder}/README.md`);
}
