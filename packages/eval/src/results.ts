/**
 * A run's folder: what was run (run.json), one line an answer as it is made (answers.jsonl), and at last
 * summary.json.
 */
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { mkdir, readFile, rename, stat, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { ResultsError } from './errors.js';
import { lockFolder } from './folder-lock.js';
import { shorten } from './shorten.js';

/** What decides every answer of a run. A folder holds the answers of one configuration. */
export interface RunConfiguration {
  /** Version of the program that runs it. */
  readonly version: string;
  /** Hash of the bundle's files. */
  readonly model: string;
  /** Hash of the data set. */
  readonly data: string;
  /** As asked for; 0: all. */
  readonly limit: number;
  readonly seed: number;
  readonly maxNewTokens: number;
  /** See `backend` of a summary. */
  readonly backend: string;
  readonly device: string;
  /** What a budget is of: a crop, or an image. */
  readonly per: string;
  /** Full SPECs, in the order of the table. */
  readonly reducers: readonly string[];
}

/** One answer, as a line of answers.jsonl holds it. */
export interface AnswerRecord {
  /** The question's id. */
  readonly id: string;
  /** The full SPEC. */
  readonly reducer: string;
  readonly text: string;
  readonly correct: boolean;
  /** Size of the image's file. */
  readonly imageBytes: number;
  /** Visual tokens out of the encoder, all images. */
  readonly inputTokens: number;
  /** Visual tokens left after the last step. */
  readonly outputTokens: number;
  /** Visual tokens left after each step, all images; the last is `outputTokens`. */
  readonly stepTokens: readonly number[];
  /**
   * Visual tokens that a layer of the language model read on average: see `equivalentTokens` of a summary's
   * row.
   */
  readonly equivalentTokens: number;
  /**
   * Keys and values held at the end: of every layer, `2 * kvHeads * headDim * bytes per number * (text +
   * visual + generated)`.
   */
  readonly kvBytes: number;
  readonly cached: { readonly text: number; readonly visual: number; readonly generated: number };
  readonly warnings: readonly string[];
}

const RUN = 'run.json';
const ANSWERS = 'answers.jsonl';
const SUMMARY = 'summary.json';
/** What `foveate report` makes of the three. */
const REPORT = 'report.html';
const NEWLINE = 0x0a;
const utf8 = new TextDecoder('utf-8', { fatal: true });

/** What was found in a folder and done with it. */
interface Opened {
  readonly moved: string | null;
  readonly answers: Map<string, Map<string, AnswerRecord>>;
}

/** A results folder, open: no other process can open it meanwhile. */
export class ResultsFolder implements Disposable {
  /** Absolute. */
  readonly folder: string;
  /** Where an earlier, finished run of the same configuration was moved to; null where there was none. */
  readonly moved: string | null;
  readonly #answers: Map<string, Map<string, AnswerRecord>>; // by reducer and id
  readonly #file: number;
  readonly #unlock: () => void;

  private constructor(folder: string, { moved, answers }: Opened, file: number, unlock: () => void) {
    this.folder = folder;
    this.moved = moved;
    this.#answers = answers;
    this.#file = file;
    this.#unlock = unlock;
  }

  /**
   * Opens a folder to write answers into, and makes it where there is none. Nothing is overwritten: with
   * `resume` the answers there are kept and gone on from; without it a finished run of the same configuration
   * is moved into a folder `earlier-N` inside, and an unfinished one is refused.
   * @param images of all questions of the run: the size of the image's file by the question's id
   * @throws ResultsError also where the folder holds another configuration, is damaged, or is open in another
   * process
   */
  static async open(
    folder: string,
    configuration: RunConfiguration,
    images: ReadonlyMap<string, number>,
    resume: boolean,
  ): Promise<ResultsFolder> {
    const directory = path.resolve(folder);
    return withFolder(directory, async () => {
      await mkdir(directory, { recursive: true });
      const unlock = lockFolder(directory);
      try {
        const found = await readRun(directory, folder, configuration);
        const moved = found && !resume ? await moveAside(directory, folder) : null;
        const answers =
          found && resume
            ? await readAnswers(path.join(directory, ANSWERS), configuration, images)
            : new Map<string, Map<string, AnswerRecord>>();
        if (!found || moved !== null) {
          await writeWhole(path.join(directory, RUN), `${JSON.stringify(configuration, null, 2)}\n`);
        }
        const file = openSync(path.join(directory, ANSWERS), 'a');
        return new ResultsFolder(directory, { moved, answers }, file, unlock);
      } catch (error) {
        unlock();
        throw error;
      }
    });
  }

  /** The answer, where it is there. */
  get(reducer: string, id: string): AnswerRecord | undefined {
    return this.#answers.get(reducer)?.get(id);
  }

  /** How many answers there are. */
  get size(): number {
    let size = 0;
    for (const answers of this.#answers.values()) size += answers.size;
    return size;
  }

  /** @throws ResultsError where it cannot be written, e.g. on a full disk; what was written before stays. */
  append(record: AnswerRecord): void {
    try {
      writeFileSync(this.#file, `${JSON.stringify(record)}\n`);
    } catch (cause) {
      throw new ResultsError(
        `${path.join(this.folder, ANSWERS)} cannot be written: ${(cause as Error).message}. What it holds is safe; resume the run when there is room.`,
        { cause },
      );
    }
    remember(this.#answers, record);
  }

  /** Writes summary.json, whole or not at all. */
  async writeSummary(summary: unknown): Promise<void> {
    await withFolder(this.folder, () =>
      writeWhole(path.join(this.folder, SUMMARY), `${JSON.stringify(summary, null, 2)}\n`),
    );
  }

  /** Nothing can be appended any more, and another process can open the folder. */
  [Symbol.dispose](): void {
    closeSync(this.#file);
    this.#unlock();
  }
}

/** Turns what the file system says into a {@link ResultsError}. */
async function withFolder<T>(folder: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof Error && 'code' in cause)) throw cause;
    throw new ResultsError(`${folder} cannot hold results: ${cause.message}. Choose another folder.`, {
      cause,
    });
  }
}

/**
 * Whether the folder holds a run.
 * @throws ResultsError where it is one of another configuration
 */
async function readRun(directory: string, folder: string, wanted: RunConfiguration): Promise<boolean> {
  const text = await readText(path.join(directory, RUN));
  if (text === null) {
    for (const name of [ANSWERS, SUMMARY]) {
      if (await exists(path.join(directory, name)))
        throw new ResultsError(
          `${folder} has a ${name} but no ${RUN} that says what it is of. Choose another folder.`,
        );
    }
    return false;
  }
  const there = parse(text);
  if (there === null)
    throw new ResultsError(
      `${folder} has a damaged ${RUN}, so what its answers are of is unknown. Choose another folder.`,
    );
  const differences = Object.entries(wanted)
    .filter(([name, value]) => !isDeepStrictEqual(there[name], value))
    .map(([name, value]) => `${name} ${shorten(there[name])} there, ${shorten(value)} asked for`);
  if (differences.length === 0) return true;
  throw new ResultsError(
    `${folder} holds a run of another configuration (${differences.join('; ')}). Choose another folder, or run what it holds.`,
  );
}

/** @throws ResultsError where the run there is not finished */
async function moveAside(directory: string, folder: string): Promise<string> {
  if (!(await exists(path.join(directory, SUMMARY))))
    throw new ResultsError(
      `${folder} holds an unfinished run of this configuration. Resume it (--resume), or choose another folder.`,
    );
  let number = 1;
  while (await exists(path.join(directory, `earlier-${number}`))) number++;
  const aside = path.join(directory, `earlier-${number}`);
  await mkdir(aside);
  if (await exists(path.join(directory, REPORT)))
    await rename(path.join(directory, REPORT), path.join(aside, REPORT));
  // run.json last: until then the folder still says what it is.
  for (const name of [SUMMARY, ANSWERS, RUN])
    await rename(path.join(directory, name), path.join(aside, name));
  return aside;
}

/**
 * The answers of an interrupted run. A last line without an end is what a killed process leaves: it is cut
 * off.
 * @throws ResultsError naming a damaged line, or one whose image was another
 */
async function readAnswers(
  file: string,
  { reducers }: RunConfiguration,
  images: ReadonlyMap<string, number>,
): Promise<Map<string, Map<string, AnswerRecord>>> {
  const answers = new Map<string, Map<string, AnswerRecord>>();
  if (!(await isRegular(file))) return answers;
  const bytes = await readFile(file);
  // Cut by bytes: what is no UTF-8 has another length once it is decoded.
  const whole = bytes.lastIndexOf(NEWLINE) + 1;
  if (whole < bytes.length) await truncate(file, whole);
  for (let start = 0, line = 1; start < whole; line++) {
    const end = bytes.indexOf(NEWLINE, start);
    const record = parse(decode(bytes.subarray(start, end))) as AnswerRecord | null;
    start = end + 1;
    if (record === null || !isAnswer(record) || !reducers.includes(record.reducer) || !images.has(record.id))
      throw new ResultsError(
        `${file}, line ${line} is no answer of this run. Remove the line to have it answered again.`,
      );
    const imageBytes = images.get(record.id);
    if (record.imageBytes !== imageBytes)
      throw new ResultsError(
        `${file}, line ${line} answers question ${record.id} about an image of ${record.imageBytes} bytes; the image there now has ${imageBytes}. Put back the image that the run asked about, or choose another folder.`,
      );
    remember(answers, record);
  }
  return answers;
}

/** Empty, which is no JSON, where the bytes are no UTF-8. */
function decode(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    return '';
  }
}

function isAnswer(record: AnswerRecord): boolean {
  const numbers = [record.imageBytes, record.inputTokens, record.outputTokens, record.kvBytes];
  return (
    typeof record.text === 'string' &&
    typeof record.correct === 'boolean' &&
    numbers.every((number) => Number.isSafeInteger(number) && number >= 0) &&
    Number.isFinite(record.equivalentTokens) &&
    isArrayOf('number', record.stepTokens) &&
    isArrayOf('string', record.warnings)
  );
}

function isArrayOf(type: 'number' | 'string', value: unknown): boolean {
  return Array.isArray(value) && value.every((item) => typeof item === type);
}

function remember(answers: Map<string, Map<string, AnswerRecord>>, record: AnswerRecord): void {
  const ofReducer = answers.get(record.reducer) ?? new Map<string, AnswerRecord>();
  answers.set(record.reducer, ofReducer);
  ofReducer.set(record.id, record);
}

/** Null where the text is no JSON object. */
function parse(text: string): Partial<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' ? value : null;
  } catch {
    return null;
  }
}

/** Null where there is no such file. */
async function readText(file: string): Promise<string | null> {
  return (await isRegular(file)) ? readFile(file, 'utf8') : null;
}

/**
 * False where there is none.
 * @throws ResultsError on what is there and no regular file: reading or writing a pipe or a device may never
 * end
 */
async function isRegular(file: string): Promise<boolean> {
  if (!(await exists(file))) return false;
  if ((await stat(file)).isFile()) return true;
  throw new ResultsError(`${file} is no regular file. Remove it, or choose another folder.`);
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    (error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw error;
    },
  );
}

/** Under another name first, then moved: no reader meets half a file. */
async function writeWhole(file: string, text: string): Promise<void> {
  const temporary = `${file}.${process.pid}`;
  await writeFile(temporary, text);
  await rename(temporary, file);
}
