/** `foveate report`: one self-contained HTML file from a run's folder. */
import { rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { InvalidArgumentError } from '@foveate/core';
import { readDataset, ResultsError, type Question, type Summary } from '@foveate/eval';
import { abortOnSignals } from '../interruption.js';
import { print } from '../output.js';
import { createProgressDisplay } from '../progress.js';
import { chooseQuestions } from './choose.js';
import { inspectQuestions, type Inspection } from './inspect.js';
import { renderPage } from './page.js';
import { readAnswers, readSummary, type AnswersByReducer } from './run-folder.js';

export interface ReportOptions {
  /** Where the bundle is now; absent: where the run had it. */
  readonly model?: string;
  /** Where the questions are now; absent: where the run had them. */
  readonly data?: string;
  /**
   * Ids joined by commas; false: no question is shown, so that neither model nor questions are needed;
   * absent: the report chooses.
   */
  readonly questions?: string | false;
}

/** @throws FoveateError; Interrupted */
export async function report(folder: string, options: ReportOptions): Promise<void> {
  if (folder === '')
    throw new InvalidArgumentError('OUT', folder, 'the path of a folder ("." is the current one)');
  const summary = await readSummary(folder);
  const inspections = options.questions === false ? [] : await inspect(folder, summary, options);
  const file = path.join(folder, 'report.html');
  const page = await renderPage({ summary, inspections, date: new Date() });
  await writeWhole(file, page);
  await print(`${file}\n`);
  process.stderr.write(
    `${(page.length / 1e6).toFixed(2)} MB, with all that it shows: open it in a browser.\n`,
  );
}

async function inspect(
  folder: string,
  { model, data, rows, per }: Summary,
  options: ReportOptions,
): Promise<Inspection[]> {
  const answers = await readAnswers(folder);
  const dataset = await readDataset(options.data ?? data.file);
  if (dataset.sha256 !== data.sha256)
    throw new ResultsError(
      `${dataset.file} is not as it was when ${folder} was made, so its answers may be to other questions. Name the questions of that run with --data, or leave the examples out with --no-questions.`,
    );
  const ids =
    typeof options.questions === 'string' ? options.questions.split(',').map((id) => id.trim()) : undefined;
  const questions = chooseQuestions(dataset.questions, answers, ids);
  checkImages(questions, answers);
  const display = createProgressDisplay(process.stderr);
  const { abortSignal, release } = abortOnSignals();
  try {
    return await inspectQuestions({
      model: { ...model, directory: options.model ?? model.directory },
      per,
      ...{ questions, answers, reducers: rows.map(({ reducer }) => reducer), abortSignal },
      onProgress: (done, total) => {
        display.update({ pass: 'answers', done, total });
      },
    });
  } finally {
    display.stop();
    release();
  }
}

/** @throws ResultsError where an image is not the one that the run asked about */
function checkImages(questions: readonly Question[], answers: ReadonlyMap<string, AnswersByReducer>): void {
  const other = questions.find(({ id, imageBytes }) =>
    [...(answers.get(id)?.values() ?? [])].some((answer) => answer.imageBytes !== imageBytes),
  );
  if (!other) return;
  throw new ResultsError(
    `The image ${other.image} of question ${other.id} is not the one that the run asked about. Name the questions of that run with --data, or show others with --questions.`,
  );
}

/** Under another name first, then moved: a report that was there before stays until the new one is whole. */
async function writeWhole(file: string, text: string): Promise<void> {
  const temporary = `${file}.${process.pid}`;
  try {
    await writeFile(temporary, text);
    await rename(temporary, file);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw new ResultsError(`${file} cannot be written: ${(cause as Error).message}.`, { cause });
  }
}
