import { execFileSync, spawnSync } from 'node:child_process';
import { appendFile, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import path from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { ResultsError } from './errors.js';
import { ResultsFolder, type AnswerRecord, type RunConfiguration } from './results.js';

let parent: string;
let folder: string;
beforeEach(async () => {
  parent = await mkdtemp(path.join(tmpdir(), 'foveate-results-'));
  folder = path.join(parent, 'deep', 'out');
  onTestFinished(() => rm(parent, { recursive: true }));
});

const configuration: RunConfiguration = {
  ...{ version: '1.0.0', model: 'm', data: 'd', limit: 2, seed: 0, backend: 'onnx', maxNewTokens: 16 },
  ...{ device: 'cpu', per: 'crop' },
  reducers: ['none', 'half'],
};
const images = new Map([
  ['a', 7],
  ['b', 8],
]);

const answer = (reducer: string, id: string, text = 'text'): AnswerRecord => ({
  ...{
    id,
    reducer,
    text,
    correct: true,
    imageBytes: images.get(id) ?? 0,
    inputTokens: 4,
    outputTokens: 2,
    kvBytes: 8,
  },
  ...{ stepTokens: [3, 2], equivalentTokens: 2.5 },
  ...{ cached: { text: 1, visual: 2, generated: 1 }, warnings: ['"quoted"\n\u2028'] },
});

const open = (resume: boolean, changes: Partial<RunConfiguration> = {}): Promise<ResultsFolder> =>
  ResultsFolder.open(folder, { ...configuration, ...changes }, images, resume);

async function write(...answers: AnswerRecord[]): Promise<void> {
  using results = await open(false);
  for (const each of answers) results.append(each);
}

const file = (name: string): string => path.join(folder, name);

describe('ResultsFolder', () => {
  it('resumes with every answer that was made, and appends to them', async () => {
    await write(answer('none', 'a'), answer('half', 'a'));
    {
      using results = await open(true);
      expect(results.size).toBe(2);
      expect(results.get('half', 'a')).toEqual(answer('half', 'a'));
      expect(results.get('half', 'b')).toBeUndefined();
      results.append(answer('half', 'b'));
    }
    using results = await open(true);
    expect(results.size).toBe(3);
    expect(results.moved).toBeNull();
  });

  it('starts where there is nothing to resume', async () => {
    {
      using results = await open(true);
      expect(results.size).toBe(0);
    }
    expect(await readdir(folder)).toEqual(['answers.jsonl', 'run.json']);
  });

  it('cuts off what a killed process left of a line, at whatever byte it stopped', async () => {
    await write(answer('none', 'a', 'f\u00fcnf'), answer('half', 'a', 'f\u00fcnf'));
    const whole = await readFile(file('answers.jsonl'));
    const first = whole.indexOf('\n') + 1;
    for (const length of [
      first,
      first + 1,
      first + 30,
      whole.indexOf('\u00fc', first) + 1,
      whole.length - 1,
    ]) {
      await writeFile(file('answers.jsonl'), whole.subarray(0, length));
      using results = await open(true);
      expect(results.size).toBe(1);
      results.append(answer('half', 'a', 'f\u00fcnf'));
      expect(await readFile(file('answers.jsonl'))).toEqual(whole);
    }
  });

  it('cuts off a torn tail of bytes that are no UTF-8 at its first byte', async () => {
    await write(answer('none', 'a'));
    const whole = await readFile(file('answers.jsonl'));
    await appendFile(file('answers.jsonl'), Uint8Array.of(0x7b, 0xff, 0xfe, 0xff, 0xc3));
    using results = await open(true);
    expect(results.size).toBe(1);
    expect(await readFile(file('answers.jsonl'))).toEqual(whole);
  });

  it('refuses a whole line that is no UTF-8, and cuts no byte of those before it', async () => {
    const line = Buffer.from(`${JSON.stringify(answer('none', 'a', '\u00fc'))}\n`);
    line[line.indexOf('\u00fc')] = 0xff;
    await write();
    await writeFile(file('answers.jsonl'), Buffer.concat([line, Buffer.from('{"id"')]));
    await expect(open(true)).rejects.toThrow('answers.jsonl, line 1 is no answer of this run');
    expect((await readFile(file('answers.jsonl'))).subarray(0, line.length)).toEqual(line);
  });

  it.each([
    ['no JSON', '{"id":"a",'],
    ['null', 'null'],
    ['an unknown question', JSON.stringify(answer('none', 'c'))],
    ['an unknown reducer', JSON.stringify(answer('third', 'a'))],
    ['no text', JSON.stringify({ ...answer('none', 'a'), text: 5 })],
    ['a warning that is none', JSON.stringify({ ...answer('none', 'a'), warnings: [[]] })],
    [
      'lists in lists',
      JSON.stringify(answer('none', 'a')).replace('[3,2]', '['.repeat(2e5) + ']'.repeat(2e5)),
    ],
    ['a share for a count', JSON.stringify({ ...answer('none', 'a'), outputTokens: 0.5 })],
  ])('refuses a line with %s, names it, and changes nothing', async (_, line) => {
    await write(answer('none', 'a'));
    await appendFile(file('answers.jsonl'), `${line}\n`);
    const before = await readFile(file('answers.jsonl'), 'utf8');
    await expect(open(true)).rejects.toThrow(ResultsError);
    await expect(open(true)).rejects.toThrow('answers.jsonl, line 2 is no answer of this run');
    expect(await readFile(file('answers.jsonl'), 'utf8')).toBe(before);
  });

  it('refuses an answer about another image than the one there now', async () => {
    await write(answer('none', 'a'), { ...answer('none', 'b'), imageBytes: 9 });
    await expect(open(true)).rejects.toThrow(
      'line 2 answers question b about an image of 9 bytes; the image there now has 8',
    );
  });

  it('refuses an unfinished run without resume', async () => {
    await write(answer('none', 'a'));
    await expect(open(false)).rejects.toThrow('unfinished run of this configuration. Resume it');
    expect(await readFile(file('answers.jsonl'), 'utf8')).toContain('"a"');
  });

  it('moves a finished run aside, as often as it is repeated', async () => {
    for (const number of [1, 2]) {
      if (number === 1) await write(answer('none', 'a', 'run 0'));
      {
        using results = await open(true);
        await results.writeSummary({ run: number - 1 });
        await writeFile(file('report.html'), `of run ${number - 1}`);
      }
      using results = await open(false);
      expect(results.moved).toBe(file(`earlier-${number}`));
      expect(results.size).toBe(0);
      results.append(answer('none', 'a', `run ${number}`));
      const moved = await readFile(file(`earlier-${number}/answers.jsonl`), 'utf8');
      expect(moved).toContain(`run ${number - 1}`);
      const summary = await readFile(file(`earlier-${number}/summary.json`), 'utf8');
      expect(JSON.parse(summary)).toEqual({ run: number - 1 });
      const report = await readFile(file(`earlier-${number}/report.html`), 'utf8');
      expect(report).toBe(`of run ${number - 1}`);
    }
    expect(await readdir(folder)).toEqual(['answers.jsonl', 'earlier-1', 'earlier-2', 'run.json']);
  });

  it('is open once at a time, and again after it was closed or refused', async () => {
    {
      using results = await open(false);
      expect(results.size).toBe(0);
      const second = open(true);
      await expect(second).rejects.toThrow(ResultsError);
      await expect(second).rejects.toThrow(`${folder} is in use by process ${process.pid} on ${hostname()}`);
    }
    await expect(open(true, { seed: 1 })).rejects.toThrow('another configuration');
    using results = await open(true);
    expect(results.size).toBe(0);
  });

  it('takes the lock of a dead process over, of a live one or of another host never', async () => {
    const dead = spawnSync(process.execPath, ['--eval', '0']).pid;
    await write(answer('none', 'a'));
    for (const owner of [`${dead} ${hostname()}`, `${process.pid} ${hostname()}`]) {
      await writeFile(file('lock'), `${owner}\n`);
      using results = await open(true);
      expect(results.size).toBe(1);
    }
    expect(await readdir(folder)).toEqual(['answers.jsonl', 'run.json']);
    for (const owner of [`${process.ppid} ${hostname()}`, `${dead} elsewhere`, '']) {
      await writeFile(file('lock'), owner);
      await expect(open(true)).rejects.toThrow(`If there is no such process, remove ${file('lock')}`);
      expect(await readFile(file('lock'), 'utf8')).toBe(owner);
    }
  });

  it.each<[Partial<RunConfiguration>, string]>([
    [{ limit: 3 }, 'limit 2 there, 3 asked for'],
    [{ seed: 1 }, 'seed 0 there, 1 asked for'],
    [{ model: 'n' }, 'model "m" there, "n" asked for'],
    [{ reducers: ['half', 'none'] }, 'reducers ["none","half"] there'],
    [{ version: '2.0.0' }, 'version "1.0.0" there'],
  ])('refuses another configuration: %j', async (changes, message) => {
    await write();
    for (const resume of [true, false])
      await expect(open(resume, changes)).rejects.toThrow(`another configuration (${message}`);
  });

  it('refuses a run.json of lists in lists by what differs', async () => {
    await write();
    const deep = JSON.stringify(configuration).replace('"d"', '['.repeat(2e5) + ']'.repeat(2e5));
    await writeFile(file('run.json'), deep);
    await expect(open(true)).rejects.toThrow('data a value nested too deeply there, "d" asked for');
  });

  it.skipIf(process.platform === 'win32').each(['run.json', 'answers.jsonl', 'lock'])(
    'refuses a pipe as %s, and waits for nobody to write to it',
    async (name) => {
      await write();
      await rm(file(name), { force: true });
      execFileSync('mkfifo', [file(name)]);
      await expect(open(true)).rejects.toThrow(ResultsError);
      await expect(open(true)).rejects.toThrow(file(name));
    },
  );

  it.each(['{', 'null', '[]', ''])('refuses a damaged run.json: %j', async (text) => {
    await write(answer('none', 'a'));
    await writeFile(file('run.json'), text);
    await expect(open(true)).rejects.toThrow(ResultsError);
  });

  it('refuses answers of which nothing says what they are of', async () => {
    await write(answer('none', 'a'));
    await rm(file('run.json'));
    await expect(open(true)).rejects.toThrow('has a answers.jsonl but no run.json');
  });

  it('refuses a path that is no folder', async () => {
    await writeFile(path.join(parent, 'deep'), '');
    await expect(open(false)).rejects.toThrow(ResultsError);
    await expect(open(false)).rejects.toThrow('cannot hold results');
  });

  it('survives a run.json without answers', async () => {
    await write();
    await truncate(file('answers.jsonl'));
    await rm(file('answers.jsonl'));
    using results = await open(true);
    expect(results.size).toBe(0);
  });
});
