/**
 * Reports of a real run on the bundle with random weights, its texts as hostile as they come, read in
 * Chromium.
 */
import { execFileSync } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { readDataset, runSweep, type AnswerRecord, type Summary } from '@foveate/eval';
import { imagesDirectory } from '@foveate/tiny-llava';
import axe from 'axe-core';
import type { Locator, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { openBrowser, type OpenBrowser } from '../../test/browser.js';
import { foveateHere, MODEL, temporaryFolder, type Ended } from '../../test/run.js';
import { registry } from '../registry.js';
import { expandSpecs } from '../spec.js';
import { version } from '../version.js';

const TIMEOUT = 240_000;
const REDUCERS = [
  'none',
  'fopru-rank:keep=0.5',
  'fopru-rank:keep=0.1',
  'pooling',
  'fopru-rank:keep=0.5+random:count=5',
];
const HOSTILE =
  '</title></script><script>window.ran = 1</script><img src=x onerror="window.ran = 2">\'&amp;`${1}';
const HOSTILE_FILE = `"><img src=x onerror=window.ran=3>'&.png`;
const QUESTIONS = [
  { id: 'plain', image: 'plain.png', kind: 'count', question: 'How many?', answer: '3' },
  { id: HOSTILE, image: HOSTILE_FILE, kind: 'attribute', question: HOSTILE, answer: HOSTILE },
  {
    id: 'crowded',
    image: 'plain.png',
    kind: 'count',
    question: 'How many stars?',
    answer: '7',
    crowded: true,
  },
];

/** Holds the questions in `data/` and a finished run of them in `out/`. */
let folder: string;
let ended: Omit<Ended, 'signal'>;
let opened: OpenBrowser;
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'foveate-report-'));
  await writeQuestions(path.join(folder, 'data'));
  await runSweep({
    ...{ model: MODEL, out: path.join(folder, 'out'), version },
    dataset: await readDataset(path.join(folder, 'data', 'questions.jsonl')),
    rows: expandSpecs(registry, REDUCERS.join(','), '1'),
  });
  await makeRecordsHostile(path.join(folder, 'out'));
  ended = await foveateHere(['report', path.join(folder, 'out')]);
  opened = await openBrowser();
}, TIMEOUT);
afterAll(async () => {
  await opened.close();
  await rm(folder, { recursive: true });
});

async function writeQuestions(data: string): Promise<void> {
  await mkdir(data);
  await cp(path.join(imagesDirectory, '0001.png'), path.join(data, 'plain.png'));
  await cp(path.join(imagesDirectory, '0002.png'), path.join(data, HOSTILE_FILE));
  const lines = QUESTIONS.map((question) => `${JSON.stringify(question)}\n`);
  await writeFile(path.join(data, 'questions.jsonl'), lines.join(''));
}

/** What a model may say, and what a folder from elsewhere may hold. */
async function makeRecordsHostile(out: string): Promise<void> {
  const file = path.join(out, 'answers.jsonl');
  const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
  const records = lines.map((line) => JSON.parse(line) as AnswerRecord);
  const changed = records.map((record) =>
    record.id === 'plain' && record.reducer === 'pooling' ? { ...record, text: HOSTILE } : record,
  );
  await writeFile(file, changed.map((record) => `${JSON.stringify(record)}\n`).join(''));
  const summary = await summaryOf(out);
  const machine = { ...summary.machine, cpu: HOSTILE };
  const rows = summary.rows.map((row) => ({ ...row, warnings: [HOSTILE] }));
  await writeFile(path.join(out, 'summary.json'), JSON.stringify({ ...summary, machine, rows }));
}

async function summaryOf(out: string): Promise<Summary> {
  return JSON.parse(await readFile(path.join(out, 'summary.json'), 'utf8')) as Summary;
}

interface Visit {
  readonly page: Page;
  /** What the page wrote to the console, threw, or asked for beside itself. */
  readonly complaints: readonly string[];
}

async function visit(
  options: { width?: number; colorScheme?: 'light' | 'dark'; file?: string } = {},
): Promise<Visit> {
  const { width = 1280, colorScheme = 'light', file = path.join(folder, 'out', 'report.html') } = options;
  const context = await opened.browser.newContext({ viewport: { width, height: 800 }, colorScheme });
  onTestFinished(() => context.close());
  const page = await context.newPage();
  const complaints: string[] = [];
  const address = pathToFileURL(file).href;
  page.on('console', (message) => complaints.push(`console: ${message.text()}`));
  page.on('pageerror', (error) => complaints.push(`error: ${error.message}`));
  page.on('request', (request) => {
    const url = request.url();
    if (url !== address && !url.startsWith('data:')) complaints.push(`request: ${url}`);
  });
  await page.goto(address);
  return { page, complaints };
}

/** Of the table with this caption, a column's cells as they stand. */
async function columnOf(page: Page, caption: string, head: string): Promise<string[]> {
  const table = page.locator('table', {
    has: page.locator('caption', { hasText: new RegExp(`^\\s*${caption}\\s*$`) }),
  });
  const heads = await table.locator('thead th').allTextContents();
  const column = heads.findIndex((text) => text.trim() === head);
  const cells = await table.locator(`tbody tr > :nth-child(${column + 1})`).allTextContents();
  return cells.map((cell) => cell.trim()); // there is space around the mark before a name
}

describe('foveate report', () => {
  it('writes one file, says where, and tells how far it is', async () => {
    expect(ended.code, ended.stderr).toBe(0);
    expect(ended.stdout).toBe(`${path.join(folder, 'out', 'report.html')}\n`);
    expect(ended.stderr).toContain('100 % (18 of 18)'); // 3 questions, each with 5 rows and a look at the attention
    expect((await readdir(path.join(folder, 'out'))).sort()).toEqual([
      'answers.jsonl',
      'report.html',
      'run.json',
      'summary.json',
    ]);
  });

  it('opens from disk without a complaint or a request, and runs no text of the data', async () => {
    const { page, complaints } = await visit();
    expect(await page.evaluate('window.ran')).toBeUndefined();
    expect(complaints).toEqual([]);
    expect(await page.locator('script').count()).toBe(1);
    expect(await page.locator('img').count()).toBe(0);
  });

  it('shows every hostile text as it is', async () => {
    const { page } = await visit();
    expect(await page.locator('article h3').allTextContents()).toEqual([
      HOSTILE,
      'How many?',
      'How many stars?',
    ]);
    const about = await page.locator('article > p').first().textContent();
    for (const text of [HOSTILE, HOSTILE_FILE]) expect(about).toContain(text);
    expect(await page.locator('.facts').textContent()).toContain(HOSTILE);
    expect(await page.locator('.notes').allTextContents()).toContainEqual(
      expect.stringContaining(`Warning: ${HOSTILE}`),
    );
    const pooled = page.locator('article').nth(1).locator('figure', { hasText: 'pooling' });
    expect(await pooled.locator('q').first().textContent()).toBe(HOSTILE);
    expect(await pooled.textContent()).toContain('Asked again for this picture, it answered');
  });

  it('draws a mark a row in both plots, and a bar a layer of the encoder', async () => {
    const { page } = await visit();
    const { rows } = await summaryOf(path.join(folder, 'out'));
    for (const name of ['Accuracy against visual tokens', 'Accuracy against time to first token']) {
      const plot = page.getByRole('img', { name, exact: true });
      expect(await plot.locator('.point').count()).toBe(rows.length);
      expect(await plot.locator('.front').count()).toBe(1);
      expect(await plot.locator('title').allTextContents()).toContainEqual(
        expect.stringContaining('fopru-rank:keep=0.1:'),
      );
      expect(await columnOf(page, `${name}, point by point`, 'right %')).toEqual(
        rows.map(({ accuracy }) => (accuracy * 100).toFixed(1)),
      );
    }
    const shares = await columnOf(
      page,
      'Share of attention held by the top 25 % of tokens, by encoder layer',
      'mean %',
    );
    expect(await page.locator('#attention .bar').count()).toBe(shares.length);
    // The top quarter holds a quarter at least, and no more than all there is.
    for (const share of shares) {
      expect(Number(share)).toBeGreaterThanOrEqual(25);
      expect(Number(share)).toBeLessThanOrEqual(100);
    }
  });

  it('shows plots and examples before tables', async () => {
    const { page } = await visit();
    const titles = ['Plots', 'Examples', 'Attention of the encoder', 'Tables', 'Machine and run'];
    expect(await page.locator('h2').allTextContents()).toEqual(titles);
    expect(await page.locator('nav a').allTextContents()).toEqual(titles);
  });

  it('gives a method one colour and one mark in the plots, the legend, the tables and the examples', async () => {
    const { page } = await visit();
    /** Colour and outline of the marks. */
    const looks = async (marks: Locator): Promise<Set<string>> => {
      const all = await marks.all();
      const texts = all.map(async (mark) => {
        const series = mark.locator('xpath=ancestor::*[contains(@class, "series")]');
        const colour = /colour-\d/.exec((await series.getAttribute('class')) ?? '');
        return `${colour?.[0] ?? 'no colour'} ${(await mark.getAttribute('d')) ?? ''}`;
      });
      return new Set(await Promise.all(texts));
    };
    const methods = new Map([
      ['none', ['none']],
      ['fopru-rank', ['fopru-rank:keep=0.5', 'fopru-rank:keep=0.1']],
      ['pooling', ['pooling']],
      ['fopru-rank+random', ['fopru-rank:keep=0.5+random:count=5']],
    ]);
    const all = new Set<string>();
    for (const [method, specs] of methods) {
      const exact = (text: string): RegExp => new RegExp(`^\\s*${text.replaceAll('+', '\\+')}\\s*$`);
      const legend = page.locator('.legend li', { hasText: exact(method) }).locator('.point');
      const [look, ...others] = await looks(legend);
      expect(others).toEqual([]);
      all.add(look);
      for (const spec of specs) {
        const plotted = page.locator('.mark', { has: page.locator('title', { hasText: `${spec}: ` }) });
        const places = {
          plots: plotted.locator('.point'),
          tables: page.locator('tbody th', { hasText: exact(spec) }).locator('.point'),
          examples: page
            .locator('figcaption', { has: page.getByText(spec, { exact: true }) })
            .locator('.point'),
        };
        const counts = { plots: 2, tables: 5, examples: QUESTIONS.length };
        for (const [place, marks] of Object.entries(places)) {
          expect(await marks.count(), place).toBe(counts[place as keyof typeof counts]);
          expect([...(await looks(marks))], place).toEqual([look]);
        }
      }
    }
    expect(all.size).toBe(methods.size);
  });

  it('darkens as many patches as each method dropped', async () => {
    const { page } = await visit();
    // The random bundle sees 8 x 8 patches; pooling merges, and drops none.
    const dropped = {
      none: 0,
      'fopru-rank:keep=0.5': 32,
      'fopru-rank:keep=0.1': 58,
      pooling: 0,
      [REDUCERS[4]]: 59,
    };
    for (const [reducer, expected] of Object.entries(dropped)) {
      const picture = page.getByRole('img', { name: `What ${reducer} kept of the image: ` }).first();
      const shades = await picture.locator('path').all();
      const paths = await Promise.all(shades.map((shade) => shade.getAttribute('d')));
      const dark = paths.flatMap((d) =>
        [...(d ?? '').matchAll(/M\d+ \d+h(\d+)v1h-\d+z/g)].map(([, run]) => Number(run)),
      );
      expect(dark.reduce((sum, run) => sum + run, 0)).toBe(expected);
    }
    expect(
      await page.getByRole('img', { name: 'The significance of each patch, as a heat map' }).count(),
    ).toBe(3);
  });

  it('frames the patches that pooling made one of', async () => {
    const { page } = await visit();
    const frames = (reducer: string): Locator =>
      page
        .getByRole('img', { name: `What ${reducer} kept of the image: ` })
        .first()
        .locator('.frames');
    // 4 x 4 frames of 2 x 2 patches: three lines down and three across, each along eight patches.
    expect((await frames('pooling').getAttribute('d'))?.match(/M/g)).toHaveLength(2 * 3 * 8);
    expect(await frames('none').count()).toBe(0);
    expect(await frames('fopru-rank:keep=0.5').count()).toBe(0);
  });

  it('sorts by a column, up and down, by mouse and by keyboard, and says so', async () => {
    const { page } = await visit();
    const caption = 'Tokens and accuracy';
    const table = page.getByRole('table', { name: caption, exact: true });
    const tokens = table.locator('thead th', { hasText: /^tokens/ });
    const reducer = table.locator('thead th', { hasText: /^reducer/ });
    expect(await columnOf(page, caption, 'reducer')).toEqual(REDUCERS);
    expect(await tokens.getAttribute('scope')).toBe('col');
    expect(await tokens.getAttribute('aria-sort')).toBeNull();

    await tokens.getByRole('button').click();
    expect(await tokens.getAttribute('aria-sort')).toBe('ascending');
    expect(await columnOf(page, caption, 'tokens')).toEqual(['6', '16', '32', '32 > 5', '64']);
    await page.keyboard.press('Enter'); // the button has the focus
    expect(await tokens.getAttribute('aria-sort')).toBe('descending');
    expect(await columnOf(page, caption, 'tokens')).toEqual(['64', '32', '32 > 5', '16', '6']);

    await reducer.getByRole('button').focus();
    await page.keyboard.press('Space');
    expect(await tokens.getAttribute('aria-sort')).toBeNull();
    expect(await reducer.getAttribute('aria-sort')).toBe('ascending');
    expect(await columnOf(page, caption, 'reducer')).toEqual([...REDUCERS].sort());
  });

  it.each(['light', 'dark'] as const)('has nothing for axe to say, on a phone in %s', async (colorScheme) => {
    const { page } = await visit({ width: 375, colorScheme });
    for (const details of await page.locator('details').all()) await details.locator('summary').click();
    await page.evaluate(axe.source);
    const found = await page.evaluate<axe.AxeResults>('axe.run()');
    expect(found.violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])).toEqual([]);
    const [content, window] = await page.evaluate<number[]>(
      '[document.documentElement.scrollWidth, innerWidth]',
    );
    expect(content).toBeLessThanOrEqual(window);
    expect(window).toBe(375);
  });

  it('shows the questions that are asked for, from folders that were moved', async () => {
    const elsewhere = await temporaryFolder();
    for (const name of ['out', 'data'])
      await cp(path.join(folder, name), path.join(elsewhere, name), { recursive: true });
    const summary = await summaryOf(path.join(elsewhere, 'out'));
    const gone = {
      ...summary,
      data: { ...summary.data, file: '/gone.jsonl' },
      model: { ...summary.model, directory: '/gone' },
    };
    await writeFile(path.join(elsewhere, 'out', 'summary.json'), JSON.stringify(gone));
    const args = ['--questions', 'crowded, plain', '--data', path.join(elsewhere, 'data', 'questions.jsonl')];
    const { code, stderr } = await foveateHere([
      'report',
      path.join(elsewhere, 'out'),
      ...args,
      '--model',
      MODEL,
    ]);
    expect(code, stderr).toBe(0);
    const { page } = await visit({ file: path.join(elsewhere, 'out', 'report.html') });
    expect(await page.locator('article h3').allTextContents()).toEqual(['How many stars?', 'How many?']);
  });

  it('with --no-questions needs the summary alone', async () => {
    const out = await temporaryFolder();
    await cp(path.join(folder, 'out', 'summary.json'), path.join(out, 'summary.json'));
    expect((await foveateHere(['report', out, '--no-questions'])).code).toBe(0);
    const { page, complaints } = await visit({ file: path.join(out, 'report.html') });
    expect(await page.locator('h2').allTextContents()).toEqual(['Plots', 'Tables', 'Machine and run']);
    expect(complaints).toEqual([]);
  });
});

describe('foveate report refuses', () => {
  /** A change to a copy of the run's folder, and what the command then says. */
  type Case = [string, (out: string) => Promise<unknown>, string, string[]?];
  const put = (name: string, text: string) => (out: string) => writeFile(path.join(out, name), text);
  const change = (changes: (summary: Summary) => object) => async (out: string) =>
    writeFile(path.join(out, 'summary.json'), JSON.stringify(changes(await summaryOf(out))));
  const cut = (name: string, share: number) => async (out: string) => {
    const text = await readFile(path.join(out, name), 'utf8');
    await writeFile(path.join(out, name), text.slice(0, text.length * share));
  };
  const cases: Case[] = [
    ['no folder', (out) => rm(out, { recursive: true }), 'has no summary.json, so it is no folder of a run'],
    ['an unfinished run', (out) => rm(path.join(out, 'summary.json')), 'an unfinished run. Finish it first'],
    ['half a summary', cut('summary.json', 0.5), 'no whole summary'],
    [
      'a summary that is a pipe',
      async (out) => {
        await rm(path.join(out, 'summary.json'));
        execFileSync('mkfifo', [path.join(out, 'summary.json')]);
      },
      'is no regular file',
    ],
    [
      'a kind of 100,000 letters',
      change(({ rows, ...rest }) => ({
        ...rest,
        rows: [{ ...rows[0], byKind: { ['a'.repeat(1e5)]: { n: 1, accuracy: 1 } } }],
      })),
      'no whole summary',
    ],
    ['an empty summary', put('summary.json', ''), 'no whole summary'],
    [
      'a summary of something else',
      put('summary.json', '{"rows": "many"}'),
      'no whole summary of "foveate ablate" (model: ',
    ],
    ['no rows', change((summary) => ({ ...summary, rows: [] })), '(rows: '],
    [
      'a number that is none',
      change(({ rows, ...rest }) => ({ ...rest, rows: [{ ...rows[0], ttftMs: '5' }] })),
      '(rows.0.ttftMs: ',
    ],
    [
      'rows of different questions',
      change(({ rows, ...rest }) => ({ ...rest, rows: [rows[0], { ...rows[1], byKind: {} }] })),
      'the rows are of different questions',
    ],
    [
      'a row twice',
      change(({ rows, ...rest }) => ({ ...rest, rows: [rows[0], rows[0]] })),
      'a row is there twice',
    ],
    [
      'a row of an unknown method',
      change(({ rows, ...rest }) => ({ ...rest, rows: [{ ...rows[0], reducer: 'magic' }] })),
      'magic',
    ],
    ['no answers', (out) => rm(path.join(out, 'answers.jsonl')), 'has no answers.jsonl'],
    ['half an answer', cut('answers.jsonl', 0.5), 'is no answer'],
    [
      'an answer too few',
      async (out) => {
        const lines = (await readFile(path.join(out, 'answers.jsonl'), 'utf8')).trimEnd().split('\n');
        await writeFile(path.join(out, 'answers.jsonl'), lines.slice(0, -1).join('\n'));
      },
      'it is not whole',
    ],
    [
      'other questions',
      change(({ data, ...rest }) => ({ ...rest, data: { ...data, sha256: 'f00' } })),
      'Name the questions of that run with --data',
    ],
    [
      'another image',
      async (out) => {
        const lines = (await readFile(path.join(out, 'answers.jsonl'), 'utf8')).trimEnd().split('\n');
        const records = lines.map((line) => ({ ...(JSON.parse(line) as AnswerRecord), imageBytes: 1 }));
        const text = records.map((record) => JSON.stringify(record)).join('\n');
        await writeFile(path.join(out, 'answers.jsonl'), text);
      },
      'is not the one that the run asked about',
    ],
    [
      'no questions',
      change(({ data, ...rest }) => ({ ...rest, data: { ...data, file: '/gone.jsonl' } })),
      '/gone.jsonl',
    ],
    [
      'another model',
      change(({ model, ...rest }) => ({ ...rest, model: { ...model, sha256: 'f00' } })),
      'Name that one with --model',
    ],
    [
      'no model',
      change(({ model, ...rest }) => ({ ...rest, model: { ...model, directory: '/gone' } })),
      '/gone',
    ],
    [
      'a question that was not asked',
      async () => undefined,
      '--questions must be ids of questions that the run asked',
      ['--questions', 'nobody'],
    ],
    [
      'a place where it cannot write',
      (out) => mkdir(path.join(out, 'report.html')),
      'cannot be written',
      ['--no-questions'],
    ],
  ];

  it.each(cases)('%s', async (_, damage, message, options = []) => {
    const out = path.join(await temporaryFolder(), 'out');
    await cp(path.join(folder, 'out'), out, { recursive: true });
    await rm(path.join(out, 'report.html'));
    await damage(out);
    const { code, stdout, stderr } = await foveateHere(['report', out, ...options]);
    expect({ code, stdout }, stderr).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain(message);
    const left = await readdir(out).catch(() => []);
    expect(left.filter((name) => name.startsWith('report.html.'))).toEqual([]);
  });

  it('and a report that was there stays', async () => {
    const out = path.join(await temporaryFolder(), 'out');
    await cp(path.join(folder, 'out'), out, { recursive: true });
    const before = await readFile(path.join(out, 'report.html'));
    expect((await foveateHere(['report', out, '--questions', 'nobody'])).code).toBe(2);
    expect(await readFile(path.join(out, 'report.html'))).toEqual(before);
  });

  it('a folder that is a file, and no folder at all', async () => {
    expect((await foveateHere(['report', path.join(folder, 'out', 'run.json')])).code).toBe(2);
    expect((await foveateHere(['report'])).code).toBe(2);
  });
});
