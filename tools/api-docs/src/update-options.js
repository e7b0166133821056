/**
 * `npm run docs:options`: writes the options tables in the READMEs of all packages anew, from the types and
 * the declared options. The packages must be built.
 */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { methodsOf, updateReadme } from './options-tables.js';

const packages = fileURLToPath(new URL('../../../packages', import.meta.url));
for (const name of readdirSync(packages)) {
  const folder = path.join(packages, name);
  if (!existsSync(path.join(folder, 'README.md'))) continue;
  const { before, after } = await updateReadme(folder, methodsOf(await import(`@foveate/${name}`)));
  if (before === after) continue;
  writeFileSync(path.join(folder, 'README.md'), after);
  console.log(`packages/${name}/README.md`);
}
