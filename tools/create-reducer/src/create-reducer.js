/**
 * `npm run create-reducer -- NAME`: the package of a new reducer. Exits with 2 where NAME will not do; then
 * nothing has changed.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { NameError, scaffold, stages } from './scaffold.js';

const usage = `Usage: npm run create-reducer -- NAME [--stage vision|language] [--no-install]

Makes packages/NAME, a small reducer that works, and registers it with the foveate command.

  --stage       vision (default): reduces an image before the projector; language: inside the decoder, at a layer
  --no-install  leaves "npm install", which links the package and writes the lock file, to you`;

const root = fileURLToPath(new URL('../../..', import.meta.url));

/** Ctrl-C reaches npm too, and stops this program only once there is nothing half done. */
let interrupted = false;
process.on('SIGINT', () => {
  interrupted = true;
});

try {
  const { name, stage, install } = readArguments();
  if (name !== undefined) await create(name, stage, install);
} catch (error) {
  if (!(error instanceof NameError)) throw error;
  console.error(`create-reducer: ${error.message}`);
  process.exitCode = 2;
}

/** @param {string} name @param {string} stage @param {boolean} install */
async function create(name, stage, install) {
  const { files, undo } = await scaffold(root, name, stage);
  if (interrupted || (install && !npmInstall())) {
    undo();
    const reason = interrupted ? 'it was stopped' : 'npm install failed or was stopped';
    console.error(`create-reducer: ${reason}, so everything was put back as it was.`);
    process.exitCode = 1;
    return;
  }
  for (const file of files) console.log(file);
  const first = install ? '' : 'npm install, then ';
  console.log(`\nNext: ${first}npx vitest run packages/${name}; then write your method in src/${name}.ts.`);
}

/** Whether it worked. */
function npmInstall() {
  const args = ['install', '--no-audit', '--no-fund', '--prefer-offline'];
  const { status } = spawnSync('npm', args, { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
  return status === 0;
}

/** The name is absent where only help was asked for. */
function readArguments() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        stage: { type: 'string', default: 'vision' },
        'no-install': { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    if (values.help) console.log(usage);
    else if (positionals.length !== 1) throw new NameError(`one NAME is needed.\n\n${usage}`);
    if (!stages.includes(values.stage))
      throw new NameError(`--stage must be ${stages.join(' or ')}; received ${JSON.stringify(values.stage)}`);
    return {
      name: values.help ? undefined : positionals[0],
      stage: values.stage,
      install: !values['no-install'],
    };
  } catch (error) {
    if (error instanceof NameError) throw error;
    throw new NameError(`${/** @type {Error} */ (error).message}\n\n${usage}`);
  }
}
