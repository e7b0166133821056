/** Asks one model the same questions with each reducer. */
import path from 'node:path';
import {
  checkReducer,
  FoveateError,
  InvalidArgumentError,
  type TensorBackend,
  type TokenReducer,
} from '@foveate/core';
import {
  ImageError,
  Lvlm,
  readImage,
  type Device,
  type DtypeChoice,
  type GenerateOptions,
  type GenerateResult,
} from '@foveate/lvlm';
import { RESAMPLES } from './bootstrap.js';
import { createBreather } from './breathe.js';
import type { EqualBy } from './comparison.js';
import type { Dataset, Question } from './dataset.js';
import { AnswerError } from './errors.js';
import { fingerprintBundle } from './fingerprint.js';
import { describeMachine } from './machine.js';
import { isCorrect } from './metrics.js';
import { ResultsFolder, type AnswerRecord } from './results.js';
import { stratifiedSample } from './sample.js';
import { summarizeRows, type Latency, type OmittedRow, type RowResults, type Summary } from './summary.js';

/** One row of the table. */
export interface SweepRow {
  /** The full SPEC: the row's name, unique among the rows. */
  readonly reducer: string;
  /** Its steps; none keeps everything. */
  readonly reducers: readonly TokenReducer[];
  /**
   * The `reducer` of the row of which this one is another draw, by another seed. It is asked like every row,
   * and counts in the `draws` of that row; it is no row of the summary, is not timed and not tested. Default:
   * it is a row of its own.
   */
  readonly drawOf?: string;
}

/** How far a run is. Passes come in this order. */
export interface SweepProgress {
  readonly pass: 'answers' | 'latency' | 'memory';
  /** Of `total`, those from before a resume included. */
  readonly done: number;
  /** Less where questions were skipped. */
  readonly total: number;
}

/** Options of {@link runSweep}. */
export interface SweepOptions {
  /** The bundle's folder. */
  readonly model: string;
  /** Of `readDataset`. */
  readonly dataset: Dataset;
  /** What is compared: a unique name for each, and its steps. */
  readonly rows: readonly SweepRow[];
  /**
   * Folder of the results. Nothing in it is overwritten: a finished run is moved aside, an unfinished one
   * needs `resume`.
   */
  readonly out: string;
  /** Version of the program, recorded, and the same for all answers of a folder. */
  readonly version: string;
  /** Questions to ask, drawn by {@link stratifiedSample}: each kind with its share; 0 asks all. Default 0. */
  readonly limit?: number;
  /** Seed of that draw and of the bootstrap. Default 0. */
  readonly seed?: number;
  /** What the rows are together, e.g. `table2`: recorded in the summary. Default null. */
  readonly preset?: string | null;
  /** What that set would have and the rows have not, with the reasons: recorded too. Default: nothing. */
  readonly omitted?: readonly OmittedRow[];
  /**
   * The number by which two rows count as equally dear (within a tenth) and are compared: the tokens left at
   * last, or those that a layer reads on average. Default `'keptTokens'`.
   */
  readonly equalBy?: EqualBy;
  /**
   * Where reducers before the language model compute, by the name that results give it. Default: in the
   * encoder's graph, `onnx`.
   */
  readonly backend?: { readonly name: string; readonly tensors: TensorBackend<unknown> };
  /** Variant of the graphs, as `Lvlm.load` takes it. Default `'auto'`: what the bundle says, else fp32. */
  readonly dtype?: DtypeChoice;
  /** Where onnxruntime runs them, as `Lvlm.load` takes it. Default `'cpu'`. */
  readonly device?: Device;
  /** What a budget is of, as `generate` takes it. Default `'crop'`. */
  readonly per?: 'crop' | 'image';
  /** Go on with what `out` holds. Default false. */
  readonly resume?: boolean;
  /**
   * Measures the peak memory in bytes, best in a process of its own, while the model answers the question
   * with the row's reducers; null where it cannot be known. Called after all else, one row after the other.
   * Default: null for every row.
   */
  readonly measurePeakRss?: (row: SweepRow, question: Question) => Promise<number | null>;
  /** An earlier run of this configuration was finished, and moved to this folder. */
  readonly onMoved?: (folder: string) => void;
  /**
   * The image of this question cannot be read, and `reason` says why: no row is asked it, and the run goes
   * on. Once mended, `resume` asks it.
   */
  readonly onSkipped?: (question: Question, reason: string) => void;
  /** Called after every step. */
  readonly onProgress?: (progress: SweepProgress) => void;
  /**
   * Stops the run after the model's current step; it rejects with the signal's reason, and `resume` goes on
   * from there.
   */
  readonly abortSignal?: AbortSignal;
}

/**
 * Questions of the latency pass, if there are so many: an odd number, so that a median is a value that was
 * measured.
 */
const LATENCY_QUESTIONS = 31;
/** Enough for a word or a number; the limit that lmms-eval sets for GQA. */
const MAX_NEW_TOKENS = 16;
/** The name of no backend at all. */
const GRAPH = 'onnx';

/**
 * Runs a comparison: first every question with every row, each answer written as it is made; then times and
 * memory in passes of their own, always done whole; at last summary.json. Answers are greedy, so a run can be
 * repeated, or killed and resumed, and gives the same ones.
 * @throws InvalidArgumentError, ResultsError, AnswerError; what Lvlm.load throws; the abort signal's reason
 */
export async function runSweep(options: SweepOptions): Promise<Summary> {
  const { dataset, rows, limit = 0, seed = 0, preset = null, backend, abortSignal } = options;
  const { dtype = 'auto', device = 'cpu', per = 'crop', omitted = [], equalBy = 'keptTokens' } = options;
  checkRows(rows);
  if (options.out === '')
    throw new InvalidArgumentError('out', options.out, 'the path of a folder ("." is the current one)');
  const questions = await stratifiedSample(dataset.questions, limit, seed, abortSignal);
  const load = { dtype, device, ...(backend && { backend: backend.tensors }) };
  await using lvlm = await Lvlm.load(options.model, load);
  const { directory, dtypes, modelType, layers, kvHeads, headDim } = lvlm.info;
  const sha256 = await fingerprintBundle(lvlm.info);
  using results = await openResults(options, sha256, questions);
  const pass = { lvlm, rows, options };
  const { asked, skipped } = await answerAll(pass, questions, results);
  const timed = asked.slice(0, LATENCY_QUESTIONS);
  const own = rows.filter(({ drawOf }) => drawOf === undefined);
  const latency = await measureLatency({ ...pass, rows: own }, timed);
  await lvlm.dispose(); // its memory is for the processes that come now
  const peaks = await measureMemory({ ...options, rows: own }, asked[0]);
  const gathered = own.map(({ reducer, reducers }, row): RowResults => ({
    reducer,
    steps: reducers.map(({ name }) => name),
    answered: answersOf(reducer, asked, results),
    calls: latency[row],
    peakRssBytes: peaks[row],
    otherDraws: rows
      .filter(({ drawOf }) => drawOf === reducer)
      .map((draw) => answersOf(draw.reducer, asked, results)),
  }));
  const summary: Summary = {
    model: { directory, sha256, dtypes, device, modelType, layers, kvHeads, headDim },
    data: { file: dataset.file, sha256: dataset.sha256, questions: dataset.questions.length, limit },
    skipped: { questions: skipped.length, images: imagesOf(skipped, dataset) },
    seed,
    preset,
    omitted,
    backend: backend?.name ?? GRAPH,
    per,
    equalBy,
    interval: 'bootstrap',
    resamples: RESAMPLES,
    latencyQuestions: timed.length,
    machine: describeMachine(options.version),
    ...summarizeRows(gathered, seed, RESAMPLES, equalBy),
  };
  abortSignal?.throwIfAborted();
  await results.writeSummary(summary);
  return summary;
}

/** Opens the folder of the results for the run that the options describe. */
async function openResults(
  options: SweepOptions,
  model: string,
  questions: readonly Question[],
): Promise<ResultsFolder> {
  const { dataset, rows, out, version, limit = 0, seed = 0, resume = false, backend, onMoved } = options;
  const { device = 'cpu', per = 'crop' } = options;
  const configuration = {
    version,
    model,
    data: dataset.sha256,
    limit,
    seed,
    maxNewTokens: MAX_NEW_TOKENS,
    backend: backend?.name ?? GRAPH,
    device,
    per,
    reducers: rows.map(({ reducer }) => reducer),
  };
  const images = new Map(questions.map(({ id, imageBytes }) => [id, imageBytes]));
  const results = await ResultsFolder.open(out, configuration, images, resume);
  if (results.moved !== null) onMoved?.(results.moved);
  return results;
}

/** The images of these questions, each once, from the data set's folder. */
function imagesOf(questions: readonly Question[], { file }: Dataset): string[] {
  const folder = path.dirname(file);
  return [...new Set(questions.map(({ image }) => path.relative(folder, image)))];
}

function answersOf(
  reducer: string,
  questions: readonly Question[],
  results: ResultsFolder,
): { question: Question; record: AnswerRecord }[] {
  return questions.flatMap((question) => {
    const record = results.get(reducer, question.id);
    return record ? [{ question, record }] : [];
  });
}

interface Pass {
  readonly lvlm: Lvlm;
  readonly rows: readonly SweepRow[];
  readonly options: SweepOptions;
}

function checkRows(rows: readonly SweepRow[]): void {
  const names = rows.map(({ reducer }) => reducer);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new InvalidArgumentError('rows', twice, 'rows of different reducers');
  if (rows.length === 0) throw new InvalidArgumentError('rows', rows, 'at least one row');
  const own = rows.filter(({ drawOf }) => drawOf === undefined).map(({ reducer }) => reducer);
  const lost = rows.find(({ drawOf }) => drawOf !== undefined && !own.includes(drawOf));
  if (lost) throw new InvalidArgumentError('rows[].drawOf', lost.drawOf, 'the name of a row of its own');
  for (const [row, { reducers }] of rows.entries()) {
    const argument = `rows[${row}].reducers`;
    if (!Array.isArray(reducers)) throw new InvalidArgumentError(argument, reducers, 'an array of reducers');
    for (const [index, reducer] of reducers.entries()) checkReducer(`${argument}[${index}]`, reducer);
  }
}

/**
 * Every question with every row, question by question, so that an interrupted run has asked all rows the
 * same. A question whose image cannot be read counts for no row, so that comparisons stay paired.
 * @throws AnswerError also where no image at all can be read
 */
async function answerAll(
  pass: Pass,
  questions: readonly Question[],
  results: ResultsFolder,
): Promise<{ asked: Question[]; skipped: Question[] }> {
  const { rows, options } = pass;
  const [asked, skipped]: Question[][] = [[], []];
  let total = questions.length * rows.length;
  const progress = (): void => options.onProgress?.({ pass: 'answers', done: results.size, total });
  progress();
  const breathe = createBreather(options.abortSignal);
  for (const question of questions) {
    await breathe(); // a resumed run passes over what was answered without waiting for anything else
    try {
      await answerQuestion(pass, question, results, progress);
      asked.push(question);
    } catch (error) {
      const isLast = skipped.length === questions.length - 1;
      if (!(AnswerError.isInstance(error) && ImageError.isInstance(error.cause)) || isLast) throw error;
      skipped.push(question);
      options.onSkipped?.(question, error.cause.message);
      total -= unanswered(rows, question, results).length;
      progress();
    }
  }
  return { asked, skipped };
}

async function answerQuestion(
  { lvlm, rows, options: { abortSignal, per = 'crop' } }: Pass,
  question: Question,
  results: ResultsFolder,
  onAnswer: () => void,
): Promise<void> {
  const missing = unanswered(rows, question, results);
  if (missing.length === 0) return;
  const options = { ...(await shareImage(question)), abortSignal, per };
  for (const row of missing) {
    results.append(toRecord(row, question, await ask(lvlm, row, question, options)));
    onAnswer();
  }
}

function unanswered(rows: readonly SweepRow[], { id }: Question, results: ResultsFolder): SweepRow[] {
  return rows.filter(({ reducer }) => !results.get(reducer, id));
}

/** Decoded and encoded once for all rows: no answer changes, and no time is measured here. */
async function shareImage(question: Question): Promise<CallOptions> {
  try {
    return { images: [await readImage(question.image)], reuseEncoding: true };
  } catch (cause) {
    throw answerError(question, cause);
  }
}

function toRecord({ reducer }: SweepRow, question: Question, result: GenerateResult): AnswerRecord {
  const sum = (of: 'inputTokens' | 'outputTokens'): number =>
    result.images.reduce((tokens, image) => tokens + image[of], 0);
  return {
    id: question.id,
    reducer,
    text: result.text,
    correct: isCorrect(question, result.text),
    imageBytes: question.imageBytes,
    inputTokens: sum('inputTokens'),
    outputTokens: sum('outputTokens'),
    stepTokens: stepTokens(result),
    equivalentTokens: result.equivalentTokens,
    kvBytes: result.memory.kvBytes,
    cached: result.memory.cached,
    warnings: result.warnings,
  };
}

/** Visual tokens left after each step of the chain, all images and crops. */
function stepTokens({ images }: GenerateResult): number[] {
  const crops = images.flatMap((image) => image.crops);
  const [{ steps }] = crops;
  return steps.map((_, step) => crops.reduce((tokens, crop) => tokens + crop.steps[step].outputTokens, 0));
}

/**
 * The rows take turns at each question, every other time in reverse, so that what slows the machine for a
 * while slows all of them.
 * @returns [rows][questions]
 */
async function measureLatency(
  { lvlm, rows, options: { abortSignal, onProgress, per = 'crop' } }: Pass,
  questions: readonly Question[],
): Promise<Latency[][]> {
  const total = questions.length * rows.length;
  const calls = rows.map((): Latency[] => []);
  const turns = rows.map((row, index) => ({ row, calls: calls[index] }));
  for (const { row } of turns) await ask(lvlm, row, questions[0], { abortSignal, per }); // warms up: opens its encoder, fills caches
  let done = 0;
  onProgress?.({ pass: 'latency', done, total });
  for (const question of questions) {
    for (const turn of turns) {
      turn.calls.push(toLatency(await ask(lvlm, turn.row, question, { abortSignal, per })));
      onProgress?.({ pass: 'latency', done: ++done, total });
    }
    turns.reverse();
  }
  return calls;
}

function toLatency({ timings, memory }: GenerateResult): Latency {
  return {
    ttftMs: timings.ttftMs,
    visionMs: timings.visionMs,
    reduceMs: timings.reduceMs,
    prefillMs: timings.prefillMs,
    tpotMs: timings.tpotMs,
    kvBytes: memory.kvBytes,
  };
}

/** One row after the other. @returns [rows] */
async function measureMemory(
  { rows, measurePeakRss, abortSignal, onProgress }: SweepOptions,
  question: Question,
): Promise<(number | null)[]> {
  if (!measurePeakRss) return rows.map(() => null);
  const peaks: (number | null)[] = [];
  for (const row of rows) {
    abortSignal?.throwIfAborted();
    onProgress?.({ pass: 'memory', done: peaks.length, total: rows.length });
    peaks.push(await measurePeakRss(row, question));
  }
  onProgress?.({ pass: 'memory', done: peaks.length, total: rows.length });
  return peaks;
}

type CallOptions = Pick<GenerateOptions, 'images' | 'reuseEncoding' | 'per'> & {
  readonly abortSignal?: AbortSignal | undefined;
};

/** @throws AnswerError around what the runner throws on purpose */
async function ask(
  lvlm: Lvlm,
  row: SweepRow,
  question: Question,
  { abortSignal, ...options }: CallOptions,
): Promise<GenerateResult> {
  try {
    return await lvlm.generate({
      images: [question.image],
      prompt: question.question,
      reducers: row.reducers,
      maxNewTokens: MAX_NEW_TOKENS,
      ...options,
      ...(abortSignal && { abortSignal }),
    });
  } catch (cause) {
    if (abortSignal?.aborted) throw cause;
    throw answerError(question, cause, row);
  }
}

/** The runner's error with the question that it is about; a defect stays what it is. */
function answerError({ id }: Question, cause: unknown, row?: SweepRow): unknown {
  if (!FoveateError.isInstance(cause)) return cause;
  const way = row ? ` with ${row.reducer}` : '';
  return new AnswerError(`Question ${id} cannot be answered${way}. ${cause.message}`, { cause });
}
