/**
 * Runs of the bundle with random weights, on the shipped questions: its answers mean nothing, and are the
 * same each time.
 */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { fopruRank } from '@foveate/fopru-rank';
import { Lvlm } from '@foveate/lvlm';
import { random } from '@foveate/baselines';
import { pooling } from '@foveate/pooling';
import { questionsFile } from '@foveate/tiny-llava';
import { beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { readDataset, type Dataset } from './dataset.js';
import { AnswerError } from './errors.js';
import type { AnswerRecord } from './results.js';
import { stratifiedSample } from './sample.js';
import type { Summary, SummaryRow } from './summary.js';
import { runSweep, type SweepOptions, type SweepProgress } from './sweep.js';

const model = fileURLToPath(new URL('../../lvlm/fixtures/random-llava', import.meta.url));
const rows = [
  { reducer: 'none', reducers: [] },
  { reducer: 'fopru-rank', reducers: [fopruRank()] },
  { reducer: 'pooling+random', reducers: [pooling(), random({ keepCount: 3 })] },
];
const TOKENS = [64, 16, 3];
const limit = 5;

let dataset: Dataset;
beforeAll(async () => {
  dataset = await readDataset(questionsFile);
});

let out: string;
let options: SweepOptions;
beforeEach(async () => {
  out = await mkdtemp(path.join(tmpdir(), 'foveate-sweep-'));
  onTestFinished(() => rm(out, { recursive: true }));
  options = { model, dataset, rows, out, version: '1.0.0', limit };
});

const answers = async (): Promise<AnswerRecord[]> =>
  (await readFile(path.join(out, 'answers.jsonl'), 'utf8'))
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as AnswerRecord);

/** Without what is measured. */
function timeless({ rows: all, ...summary }: Summary): unknown {
  const measured = ['ttftMs', 'visionMs', 'reduceMs', 'prefillMs', 'tpotMs', 'peakRssBytes'];
  const keep = (row: SummaryRow): unknown =>
    Object.fromEntries(Object.entries(row).filter(([name]) => !measured.includes(name)));
  return { ...summary, rows: all.map(keep) };
}

describe('runSweep', () => {
  it('asks every draw of a row, and times and sums up the row alone', async () => {
    const measured: string[] = [];
    const drawn = [0, 1, 2].map((seed) => ({
      reducer: `random-${seed}`,
      reducers: [random({ keepCount: 3, seed })],
      ...(seed > 0 && { drawOf: 'random-0' }),
    }));
    const summary = await runSweep({
      ...{ ...options, rows: [rows[0], ...drawn], equalBy: 'equivalentTokens' },
      omitted: [{ reducer: 'other', reason: 'It cannot.' }],
      measurePeakRss: async ({ reducer }) => measured.push(reducer),
    });
    expect(summary).toMatchObject({
      equalBy: 'equivalentTokens',
      omitted: [{ reducer: 'other', reason: 'It cannot.' }],
    });
    expect(summary.rows.map(({ reducer }) => reducer)).toEqual(['none', 'random-0']);
    expect(measured).toEqual(['none', 'random-0']);
    const records = await answers();
    expect(records).toHaveLength(4 * limit);
    const shares = drawn.map(({ reducer }) => {
      const ofDraw = records.filter((record) => record.reducer === reducer);
      return ofDraw.filter(({ correct }) => correct).length / limit;
    });
    expect(summary.rows[1].draws).toEqual({
      ...{ n: 3, lowest: Math.min(...shares), highest: Math.max(...shares) },
      mean: expect.closeTo((shares[0] + shares[1] + shares[2]) / 3, 12) as number,
    });
    expect(summary.rows[0]).not.toHaveProperty('draws');
  });

  it('refuses a draw of no row', async () => {
    const lost = { reducer: 'b', reducers: [], drawOf: 'c' };
    await expect(runSweep({ ...options, rows: [...rows, lost] })).rejects.toThrow('rows[].drawOf must be');
  });

  it('answers as Lvlm does on its own, and sums up what it wrote', async () => {
    const progress: SweepProgress[] = [];
    const summary = await runSweep({
      ...options,
      measurePeakRss: async ({ reducer }) => reducer.length,
      onProgress: (step) => progress.push(step),
    });

    const questions = await stratifiedSample(dataset.questions, limit, 0);
    const records = await answers();
    expect(records.map(({ id, reducer }) => [id, reducer])).toEqual(
      questions.flatMap(({ id }) => rows.map(({ reducer }) => [id, reducer])),
    );
    await using lvlm = await Lvlm.load(model);
    const { layers, kvHeads, headDim } = lvlm.info;
    for (const [index, record] of records.entries()) {
      const { question, image } = questions[Math.floor(index / rows.length)];
      const { reducers } = rows[index % rows.length];
      const alone = await lvlm.generate({ images: [image], prompt: question, reducers, maxNewTokens: 16 });
      expect(record.text).toBe(alone.text);
      expect(record.outputTokens).toBe(TOKENS[index % rows.length]);
      const { text, visual, generated } = record.cached;
      expect(visual).toBe(record.outputTokens);
      expect(record.kvBytes).toBe(layers * 2 * kvHeads * headDim * 4 * (text + visual + generated));
    }

    expect(JSON.parse(await readFile(path.join(out, 'summary.json'), 'utf8'))).toEqual(summary);
    expect(
      summary.rows.map(({ reducer, keptTokens, keep, questions: n, peakRssBytes }) => ({
        ...{ reducer, keptTokens, keep, n, peakRssBytes },
      })),
    ).toEqual(
      rows.map(({ reducer }, row) => ({
        ...{
          reducer,
          keptTokens: TOKENS[row],
          keep: TOKENS[row] / 64,
          n: limit,
          peakRssBytes: reducer.length,
        },
      })),
    );
    for (const row of summary.rows) {
      const right = records.filter(({ reducer, correct }) => reducer === row.reducer && correct).length;
      expect(row.accuracy).toBe(right / limit);
      expect(row.ttftMs).toBeGreaterThan(row.visionMs);
    }
    expect(summary).toMatchObject({
      seed: 0,
      latencyQuestions: limit,
      data: { limit, questions: dataset.questions.length },
    });
    expect(summary.machine.versions).toMatchObject({ onnxruntime: '1.30.0', foveate: '1.0.0' });

    for (const pass of ['answers', 'latency', 'memory'] as const) {
      const steps = progress.filter((step) => step.pass === pass);
      const total = rows.length * (pass === 'memory' ? 1 : limit);
      expect(steps.map(({ done }) => done)).toEqual(Array.from({ length: total + 1 }, (_, done) => done));
      expect(steps[0].total).toBe(total);
    }
  });

  it('stopped and resumed, it gives what an uninterrupted run gives, and asks nothing twice', async () => {
    const controller = new AbortController();
    const stopped = runSweep({
      ...options,
      abortSignal: controller.signal,
      onProgress: ({ done }) => {
        if (done === 7) controller.abort(new Error('enough'));
      },
    });
    await expect(stopped).rejects.toThrow('enough');
    const before = await answers();
    expect(before).toHaveLength(7);

    const steps: SweepProgress[] = [];
    const resumed = await runSweep({ ...options, resume: true, onProgress: (step) => steps.push(step) });
    expect(steps[0]).toEqual({ pass: 'answers', done: 7, total: 15 });
    const after = await answers();
    expect(after.slice(0, 7)).toEqual(before);

    out = path.join(out, 'whole');
    const whole = await runSweep({ ...options, out });
    expect(timeless(resumed)).toEqual(timeless(whole));
    expect(after).toEqual(await answers());
  });

  it('names the question and the reducer where the model cannot answer', async () => {
    const [question] = dataset.questions;
    const broken = { ...dataset, questions: [{ ...question, question: 'What is in <image>?' }] };
    const failed = runSweep({ ...options, dataset: broken });
    await expect(failed).rejects.toThrow(AnswerError);
    await expect(failed).rejects.toThrow(`Question ${question.id} cannot be answered with none. `);
  });

  it('leaves a question out for every row where its image is damaged, says so, and asks it once the image is mended', async () => {
    const folder = path.join(out, 'data');
    await cp(path.dirname(questionsFile), folder, { recursive: true });
    const file = path.join(folder, path.basename(questionsFile));
    const whole = await stratifiedSample((await readDataset(file)).questions, limit, 0);
    const { id, image } = whole[1];
    const bytes = await readFile(image);
    await writeFile(image, bytes.subarray(0, 100));
    const affected = whole.filter((question) => question.image === image).length;

    const skipped: string[] = [];
    const steps: SweepProgress[] = [];
    const run = { ...options, out: path.join(out, 'out') };
    const damaged = await runSweep({
      ...{ ...run, dataset: await readDataset(file) },
      onSkipped: (question, reason) => skipped.push(`${question.id}: ${reason}`),
      onProgress: (step) => steps.push(step),
    });
    expect(skipped[0]).toContain(`${id}: file (${image}) cannot be decoded`);
    expect(skipped).toHaveLength(affected);
    expect(damaged.skipped).toEqual({ questions: affected, images: [path.relative(folder, image)] });
    for (const row of damaged.rows) expect(row.questions).toBe(limit - affected);
    const total = (limit - affected) * rows.length;
    expect(steps.findLast(({ pass }) => pass === 'answers')).toEqual({ pass: 'answers', done: total, total });

    await writeFile(image, bytes);
    const mended = await runSweep({ ...run, dataset: await readDataset(file), resume: true });
    const straight = await runSweep({
      ...run,
      dataset: await readDataset(file),
      out: path.join(out, 'again'),
    });
    expect(timeless(mended)).toEqual(timeless(straight));
    expect(mended.skipped).toEqual({ questions: 0, images: [] });
  });

  it('names the question whose image is none where there is no other', async () => {
    const [question] = dataset.questions;
    const broken = { ...dataset, questions: [{ ...question, image: questionsFile }] };
    await expect(runSweep({ ...options, dataset: broken })).rejects.toThrow(
      `Question ${question.id} cannot be answered. `,
    );
  });

  it('refuses no folder, which would be the current one', async () => {
    await expect(runSweep({ ...options, out: '' })).rejects.toThrow('out must be the path of a folder');
  });

  it('refuses no rows, two of one name, and what is no reducer', async () => {
    await expect(runSweep({ ...options, rows: [] })).rejects.toThrow('at least one row');
    for (const [reducers, message] of [
      [{}, 'rows[0].reducers must be an array of reducers'],
      [[() => undefined], 'rows[0].reducers[0] must be a reducer of specificationVersion 2'],
    ] as const) {
      const rows = [{ reducer: 'x', reducers: reducers as never }];
      await expect(runSweep({ ...options, rows })).rejects.toThrow(message);
    }
    await expect(runSweep({ ...options, rows: [rows[0], rows[0]] })).rejects.toThrow('different reducers');
  });
});
