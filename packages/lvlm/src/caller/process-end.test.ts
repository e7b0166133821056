/** How a process ends in which a model is at work. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { runChild } from '../../test/child.js';
import { FIXTURE } from '../../test/bundles.js';
import { Lvlm } from '../index.js';

/** A call that the process's end meets inside a run of the model: long ones, back to back. */
const ask = `{ prompt: 'x'.repeat(600), maxNewTokens: 300, onToken: () => done() }`;

test.each<[string, string, number]>([
  [
    'process.exit() between two tokens',
    `const done = () => process.exit(3); await model.generate(${ask});`,
    3,
  ],
  [
    'process.exit() inside the first run',
    `const done = () => {}; setTimeout(() => process.exit(3), 15); await model.generate(${ask});`,
    3,
  ],
])('%s gives the exit code of its own', async (_, script, code) => {
  // The end is inside a run more often than not: all of them have to go well.
  for (let attempt = 0; attempt < 3; attempt++) {
    const ended = await runChild(`const model = await Lvlm.load(bundle); ${script}`);
    expect(ended).toMatchObject({ code, signal: null, stdout: '' });
    expect(ended.stderr).not.toMatch(/Napi|terminate called/);
  }
});

test('SIGINT ends a process in the middle of an answer', async () => {
  const done = `const done = () => console.log('token');`;
  const ended = await runChild(
    `const model = await Lvlm.load(bundle); ${done} await model.generate(${ask});`,
    {
      signal: 'SIGINT',
    },
  );
  expect(ended).toMatchObject({ code: null, signal: 'SIGINT' });
});

test('what waits for the end of the process goes with the models', async () => {
  const before = process.listenerCount('exit');
  const models = await Promise.all([Lvlm.load(FIXTURE), Lvlm.load(FIXTURE)]);
  expect(process.listenerCount('exit')).toBe(before + 1);
  for (const model of models) await model.dispose();
  expect(process.listenerCount('exit')).toBe(before);
});

test('a script on the command line can load a model', async () => {
  const entry = import.meta.resolve('../index.ts');
  const script = `const { Lvlm } = await import(${JSON.stringify(entry)}); const model = await Lvlm.load(${JSON.stringify(FIXTURE)}); console.log(String(model.info.layers)); await model.dispose();`;
  const flags = ['--import', import.meta.resolve('tsx'), '--conditions=@foveate/source'];
  const { stdout } = await promisify(execFile)(process.execPath, [
    ...flags,
    '--input-type=module',
    '--eval',
    script,
  ]);
  expect(stdout).toBe('4\n');
});
