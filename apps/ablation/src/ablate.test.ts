/** Whole runs of the command on the bundle with random weights and the shipped questions. */
import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { AnswerRecord, Summary, SummaryRow } from '@foveate/eval';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { foveate, MODEL, start, temporaryFolder, type Ended } from '../test/run.js';

const REDUCERS = 'none,fopru-rank,pooling+random:count=5';
const ARGS = [
  'ablate',
  '--model',
  MODEL,
  '--reducers',
  REDUCERS,
  '--keep',
  '0.1',
  '--limit',
  '8',
  '--out',
  'out',
];
const ANSWERS = 8 * 3;
const TIMEOUT = 180_000;

const lines = async (folder: string): Promise<string[]> =>
  (await readFile(path.join(folder, 'out', 'answers.jsonl'), 'utf8')).trimEnd().split('\n');
const summaryOf = async (folder: string): Promise<Summary> =>
  JSON.parse(await readFile(path.join(folder, 'out', 'summary.json'), 'utf8')) as Summary;

/** Without what is measured: times and memory. */
function timeless({ rows, ...summary }: Summary): unknown {
  const measured = ['ttftMs', 'visionMs', 'reduceMs', 'prefillMs', 'tpotMs', 'peakRssBytes'];
  const keep = (row: SummaryRow): unknown =>
    Object.fromEntries(Object.entries(row).filter(([name]) => !measured.includes(name)));
  return { ...summary, rows: rows.map(keep) };
}

/** Starts a run and sends it a signal as soon as it has written that many lines. */
async function interrupted(folder: string, signal: NodeJS.Signals, answers: number): Promise<Ended> {
  const { child, ended } = start(ARGS, folder);
  const written = async (): Promise<number> => (await lines(folder).catch(() => [])).length;
  while ((await written()) < answers && child.exitCode === null)
    await new Promise((resolve) => setTimeout(resolve, 5));
  child.kill(signal);
  return ended;
}

/** An uninterrupted run, in `whole/out`. */
let whole: string;
let ended: Ended;
beforeAll(async () => {
  whole = await mkdtemp(path.join(tmpdir(), 'foveate-ablate-'));
  ended = await foveate(ARGS, whole);
}, TIMEOUT);
afterAll(() => rm(whole, { recursive: true }));

let folder: string;
beforeEach(async () => {
  folder = await temporaryFolder();
});

describe('foveate ablate', () => {
  it('prints the table of its summary on stdout, how far it is on stderr', async () => {
    const { code, stdout, stderr } = ended;
    expect(code).toBe(0);
    const { rows, machine } = await summaryOf(whole);
    expect(rows.map(({ reducer, keptTokens, questions }) => [reducer, keptTokens, questions])).toEqual([
      ['none', 64, 8],
      ['fopru-rank:keep=0.1', 6, 8],
      ['pooling+random:count=5', 5, 8],
    ]);
    for (const { reducer, peakRssBytes } of rows) {
      expect(stdout).toContain(`\n${reducer} `);
      if (machine.platform === 'linux') expect(peakRssBytes).toBeGreaterThan(50e6);
    }
    expect(stdout).toContain('n = 8 of ');
    expect(stderr).toContain(`answers: 100 % (${ANSWERS} of ${ANSWERS})`);
    expect(stderr).toContain('memory: 100 % (3 of 3)');
    expect(stderr).toContain('Answers and summary are in out.');
    expect(await readdir(path.join(whole, 'out'))).toEqual(['answers.jsonl', 'run.json', 'summary.json']);
  });

  it(
    'gives the same answers when it is repeated, and keeps those of before',
    async () => {
      await cp(whole, folder, { recursive: true });
      const { code, stderr } = await foveate(ARGS, folder);
      expect(code).toBe(0);
      expect(stderr).toContain('out held a finished run of this configuration; it is now in ');
      expect(await lines(folder)).toEqual(await lines(whole));
      expect(timeless(await summaryOf(folder))).toEqual(timeless(await summaryOf(whole)));
      for (const name of ['answers.jsonl', 'run.json', 'summary.json'])
        expect(await readFile(path.join(folder, 'out', 'earlier-1', name))).toEqual(
          await readFile(path.join(whole, 'out', name)),
        );
    },
    TIMEOUT,
  );

  it(
    'gives the same answers on another backend, and names it',
    async () => {
      const { code, stdout } = await foveate([...ARGS, '--backend', 'wasm'], folder);
      expect(code).toBe(0);
      expect(stdout).toContain('\nBackend: wasm. Device: cpu. Graphs: fp32.\n');
      expect(ended.stdout).toContain('\nBackend: onnx. Device: cpu. Graphs: fp32.\n');
      expect(await lines(folder)).toEqual(await lines(whole));
      const { backend, ...summary } = await summaryOf(folder);
      expect(backend).toBe('wasm');
      const { backend: graph, ...there } = await summaryOf(whole);
      expect(graph).toBe('onnx');
      expect(timeless(summary as Summary)).toEqual(timeless(there as Summary));
    },
    TIMEOUT,
  );

  it(
    'killed half way and resumed, it gives the summary of an uninterrupted run',
    async () => {
      expect(await interrupted(folder, 'SIGKILL', 11)).toMatchObject({ code: null, signal: 'SIGKILL' });
      const before = await lines(folder);
      expect(before.length).toBeLessThan(ANSWERS);
      const again = await foveate(ARGS, folder);
      expect(again).toMatchObject({ code: 2, stdout: '' });
      expect(again.stderr).toContain(
        'out holds an unfinished run of this configuration. Resume it (--resume)',
      );

      const resumed = await foveate([...ARGS, '--resume', '--format', 'json'], folder);
      expect(resumed.code).toBe(0);
      expect((await lines(folder)).slice(0, 11)).toEqual(before.slice(0, 11));
      expect(await lines(folder)).toEqual(await lines(whole));
      const summary = await summaryOf(folder);
      expect(timeless(summary)).toEqual(timeless(await summaryOf(whole)));
      expect(JSON.parse(resumed.stdout)).toEqual(summary);
    },
    TIMEOUT,
  );

  it(
    'keeps a run whose table nobody reads, and prints it when it is resumed',
    async () => {
      const { child, ended } = start(ARGS, folder);
      child.stdout?.destroy();
      const { code, stderr } = await ended;
      expect(code).toBe(2);
      expect(stderr).toMatch(
        /Answers and summary are in out\.\nfoveate: stdout cannot be written: write EPIPE\.\n$/,
      );
      const resumed = await foveate([...ARGS, '--resume'], folder);
      expect(resumed.code).toBe(0);
      expect(resumed.stdout).toContain('\nfopru-rank:keep=0.1 ');
      expect(await lines(folder)).toEqual(await lines(whole));
    },
    TIMEOUT,
  );

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s: says how to go on, and ends with %i', async (signal, code) => {
    const { stderr, ...rest } = await interrupted(folder, signal, 5);
    expect(rest).toEqual({ code, signal: null, stdout: '' });
    const written = (await lines(folder)).map((line) => JSON.parse(line) as AnswerRecord);
    expect(stderr).toContain(
      `Stopped. out holds ${written.length} answers: add --resume to the same command to go on.`,
    );
    expect(await readdir(path.join(folder, 'out'))).toEqual(['answers.jsonl', 'run.json']);
  });

  it.each([
    [['--limit', '9'], 'out holds a run of another configuration (limit 8 there, 9 asked for)'],
    [['--seed', '1', '--resume'], 'out holds a run of another configuration (seed 0 there, 1 asked for)'],
    [
      ['--backend', 'js', '--resume'],
      'out holds a run of another configuration (backend "onnx" there, "js" asked for)',
    ],
    [['--keep', '0.2'], 'out holds a run of another configuration (reducers '],
    [['--out', 'out/run.json'], 'cannot hold results'],
  ])('refuses %j where another run lies, and touches nothing', async (more, message) => {
    const { code, stderr } = await foveate([...ARGS, ...more], whole);
    expect(code).toBe(2);
    expect(stderr).toContain(message);
    expect(await readdir(path.join(whole, 'out'))).toEqual(['answers.jsonl', 'run.json', 'summary.json']);
  });

  it('leaves no folder behind where the model cannot be loaded', async () => {
    const { code, stderr } = await foveate(['ablate', '--model', 'nothing'], folder);
    expect(code).toBe(2);
    expect(stderr).toContain('nothing');
    expect(await readdir(folder)).toEqual([]);
  });
});
