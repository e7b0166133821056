/**
 * `npm test`, and what .ci/run runs after the install: every check of this repository, each once. All of them
 * run even when one fails. The last line has the tests' counts; the exit code is 0 only if everything passed
 * and at least one test ran.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { countTests } from './test-counts.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const environment = {
  ...process.env,
  PATH: path.join(root, 'node_modules', '.bin') + path.delimiter + process.env.PATH,
};
const checks = [
  ['format', 'prettier', '--check', '--log-level', 'warn', '.'],
  ['unused files, exports and dependencies', 'knip', '--no-progress'],
  [
    'types, lint, tests, packages',
    ...['nx', 'run-many', '--outputStyle=static-failures-only', '-t', 'typecheck', 'lint', 'test', 'check'],
  ],
];

for (const report of reports()) rmSync(report);
const failures = checks
  .filter(([title, command, ...args]) => {
    console.log(`\n== ${title}`);
    const { status } = spawnSync(command, args, { cwd: root, env: environment, stdio: ['ignore', 1, 2] });
    return status !== 0;
  })
  .map(([title]) => title);

const counts = countTests(reports().map((file) => JSON.parse(readFileSync(file, 'utf8'))));
if (counts.passed + counts.failed === 0) failures.push('no test ran');
if (counts.failed > 0 && failures.length === 0) failures.push('tests');

console.log();
for (const failure of failures) console.log(`failed: ${failure}`);
const skipped = counts.skipped === 0 ? '' : `, ${counts.skipped} skipped`;
console.log(`${counts.passed} passed, ${counts.failed} failed${skipped}`);
process.exitCode = failures.length === 0 ? 0 : 1;

/** Where each project's test target leaves vitest's report. */
function reports() {
  return ['apps', 'packages', 'tools']
    .flatMap((folder) => readdirSync(path.join(root, folder)).map((name) => path.join(root, folder, name)))
    .map((project) => path.join(project, '.reports', 'vitest.json'))
    .filter((report) => existsSync(report));
}
