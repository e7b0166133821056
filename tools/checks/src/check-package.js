/**
 * Checks the built package in the current folder as its users will get it: the manifest, the files of the
 * packed tarball, publint, attw (ES modules only), that Node both imports and requires it, and that its
 * command starts. Prints one line per problem and exits 1 if there is any.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { linkProblems, manifestProblems, tarballProblems } from './package-problems.js';

const manifest = JSON.parse(readFileSync('package.json', 'utf8'));
const scratch = mkdtempSync(path.join(tmpdir(), 'foveate-check-'));
try {
  const packed = run('npm', ['pack', '--json', '--pack-destination', scratch]);
  const [{ filename, files, size }] = JSON.parse(packed);
  const tarball = path.join(scratch, filename);
  const packedFiles = files.map((/** @type {{ path: string }} */ file) => file.path);
  const problems = [
    ...manifestProblems(manifest),
    ...tarballProblems(manifest, packedFiles),
    ...linkProblems(readFileSync('README.md', 'utf8'), packedFiles),
    ...(await lint(tarball)),
    ...(manifest.exports === undefined ? [] : [...typeProblems(tarball), ...loadProblems()]),
    ...commandProblems(),
  ];
  for (const problem of problems) console.error(`${manifest.name}: ${problem}`);
  if (problems.length > 0) process.exitCode = 1;
  else console.log(`${manifest.name}: ${files.length} files, ${Math.ceil(size / 1024)} kB packed`);
} finally {
  rmSync(scratch, { recursive: true });
}

/** @param {string} tarball */
async function lint(tarball) {
  const { messages, pkg } = await publint({
    pack: { tarball: new Uint8Array(readFileSync(tarball)).buffer },
    strict: true,
  });
  return messages.map((message) => `publint: ${formatMessage(message, pkg ?? manifest, { color: false })}`);
}

/** @param {string} tarball */
function typeProblems(tarball) {
  const attw = createRequire(import.meta.url).resolve('@arethetypeswrong/cli/package.json');
  const command = path.join(path.dirname(attw), 'dist/index.js');
  const { status, stdout } = spawnSync(
    process.execPath,
    [command, tarball, '--profile', 'esm-only', '--format', 'ascii', '--no-color', '--no-emoji'],
    { encoding: 'utf8' },
  );
  return status === 0 ? [] : [`attw:\n${stdout}`];
}

/** Node resolves a package's own name inside its folder, through the `exports` that users get. */
function loadProblems() {
  return Object.keys(manifest.exports).flatMap((entry) => {
    const specifier = JSON.stringify(path.posix.join(manifest.name, entry));
    return [`await import(${specifier})`, `require(${specifier})`].flatMap((code) => {
      const type = code.startsWith('await') ? 'module' : 'commonjs';
      const { status, stderr } = spawnSync(process.execPath, [`--input-type=${type}`, '--eval', code], {
        encoding: 'utf8',
      });
      return status === 0 ? [] : [`${code} fails:\n${stderr}`];
    });
  });
}

/** A command that starts says how it is used. */
function commandProblems() {
  return Object.entries(manifest.bin ?? {}).flatMap(([name, file]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [file, '--help'], { encoding: 'utf8' });
    return status === 0 && stdout.includes('Usage') ? [] : [`${name} --help fails:\n${stdout}${stderr}`];
  });
}

/** @param {string} command @param {string[]} args */
function run(command, args) {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
}
