import { existsSync } from 'node:fs';
import { open, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';
import { modelDirectory } from '@foveate/tiny-llava';
import { foveateHere, start, temporaryFolder } from '../test/run.js';
import { registry } from './registry.js';

/** A small LLaVA whose encoder has no class token. */
const SIGLIP = fileURLToPath(new URL('../../../packages/lvlm/fixtures/families/llava', import.meta.url));

describe('foveate', () => {
  it('methods lists every method and option', async () => {
    const { code, stdout } = await foveateHere(['methods']);
    expect(code).toBe(0);
    for (const { name, options } of [...registry.entries, ...registry.modifiers]) {
      expect(stdout).toContain(`${name}: `);
      for (const option of options) expect(stdout).toContain(option.name);
    }
    expect(stdout.split('\n').every((line) => line.length <= 100)).toBe(true);
    const [, onFeatures, inside] = stdout.split(/^(?=ON THE FEATURES|INSIDE THE LANGUAGE)/m);
    expect(onFeatures).toMatch(
      /\nfastervlm: .*\n +needs a class token\n +reads classAttention@features:mean\n/,
    );
    expect(inside).toMatch(/\nfastv: .*\n +needs the text’s attention to the image\n/);
  });

  it('methods --for says what a model can run, and why not the rest', async () => {
    const { code, stdout } = await foveateHere(['methods', '--for', modelDirectory]);
    expect(code).toBe(0);
    for (const { name } of [...registry.entries, ...registry.modifiers])
      expect(stdout).toContain(`\n${name}: runs\n`);
    const other = await foveateHere(['methods', '--for', SIGLIP]);
    expect(other.stdout).toContain('\nfopru-rank: runs\n');
    expect(other.stdout.replace(/\s+/g, ' ')).toContain(
      'fastervlm: does not run Signal classAttention@features:mean is not available: this encoder has no class token.',
    );
    expect(other.stdout.split('\n').every((line) => line.length <= 100 || line.startsWith('llava, '))).toBe(
      true,
    );
    expect(await foveateHere(['methods', '--for', './none'])).toMatchObject({ code: 2, stdout: '' });
  });

  it('--version is that of the package', async () => {
    expect(await foveateHere(['--version'])).toMatchObject({ code: 0, stdout: '0.0.0\n' });
  });

  it.each([['--help'], ['ablate', '--help'], ['ask', '--help'], ['help', 'ask']])(
    '%s %s',
    async (...args) => {
      const { code, stdout, stderr } = await foveateHere(args.filter(Boolean));
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      expect(stdout).toContain('Usage: foveate');
    },
  );

  it.each<[string, string[], string]>([
    ['an unknown command', ['ablation'], 'Did you mean ablate?'],
    ['nothing', [], 'Usage: foveate'],
    ['a limit that is no number', ['ablate', '--limit', 'many'], 'an integer from 0'],
    ['a negative limit', ['ablate', '--limit', '-1'], 'an integer from 0'],
    ['a seed out of range', ['ablate', '--seed', '4294967296'], 'an integer from 0 to 4294967295'],
    ['an unknown format', ['ablate', '--format', 'html'], 'Allowed choices are table, md, csv, json'],
    ['a dtype that is no list', ['pull', 'a/b', '--dtype', 'a=b=c'], 'Write graph=variant'],
    [
      'a dtype of no graph',
      ['methods', '--for', SIGLIP, '--dtype', 'decoder=q8'],
      'dtype must be one of auto',
    ],
    ['an argument too many', ['ablate', 'everything'], 'too many arguments'],
    ['a percentage', ['ablate', '--keep', '50'], 'ratios in (0, 1]'],
    ['no folder for the results', ['ablate', '--out', ''], 'out must be the path of a folder'],
    ['no folder to report on', ['report', ''], 'OUT must be the path of a folder'],
    ['data that is not there', ['ablate', '--data', 'none.jsonl'], 'There is no file none.jsonl'],
  ])('%s: exit code 2', async (_, args, message) => {
    const { code, stdout, stderr } = await foveateHere(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(message);
  });

  it('names the line of a broken data set', async () => {
    const folder = await temporaryFolder();
    await writeFile(path.join(folder, 'q.jsonl'), '{"id": "1"}\n');
    const file = path.join(folder, 'q.jsonl');
    const { code, stderr } = await foveateHere(['ablate', '--data', file]);
    expect(code).toBe(2);
    expect(stderr).toBe(
      `foveate: ${file}, line 1: "image" must be a text that is not empty; received nothing.\n`,
    );
  });

  it.each(['methods', '--help'])('says that nobody reads %s, and ends with 2', async (argument) => {
    const { child, ended } = start([argument], '.');
    child.stdout?.destroy();
    expect(await ended).toMatchObject({
      code: 2,
      stderr: 'foveate: stdout cannot be written: write EPIPE.\n',
    });
  });

  it.skipIf(!existsSync('/dev/full'))(
    'says that %s does not fit on a full disk, and ends with 2',
    async () => {
      const full = await open('/dev/full', 'w');
      onTestFinished(() => full.close());
      for (const argument of ['methods', '--help']) {
        const { code, stderr } = await start([argument], '.', full.fd).ended;
        expect({ code, stderr }).toEqual({
          code: 2,
          stderr: 'foveate: stdout cannot be written: ENOSPC: no space left on device, write.\n',
        });
      }
    },
  );
});
