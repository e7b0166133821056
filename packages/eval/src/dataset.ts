/** Reads a data set: JSON lines, beside them the images that they name. */
import { createHash } from 'node:crypto';
import { readFile, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { DatasetError } from './errors.js';
import { shorten } from './shorten.js';

/** One question about one image. */
export interface Question {
  /**
   * Unique in its data set: at most 200 characters, without a comma or space around it, so that lists of ids
   * can name it.
   */
  readonly id: string;
  /** Absolute path of the image's file. */
  readonly image: string;
  /** Size of that file. An answer records it, so that a run notices where another image is there now. */
  readonly imageBytes: number;
  /**
   * What kind of question it is, e.g. `presence`: at most 200 lower-case letters, digits and hyphens. Decides
   * the metric, see {@link isCorrect}.
   */
  readonly kind: string;
  /** The user's turn, word for word; the bundle's chat template goes around it. */
  readonly question: string;
  /** The right answer. */
  readonly answer: string;
  /** Whether the scene is a crowded one: such questions are reported apart from their kinds. */
  readonly crowded: boolean;
}

/** The questions of one file. */
export interface Dataset {
  /** The file's absolute path. */
  readonly file: string;
  /**
   * Of the file's bytes, so of all questions, answers and names of images; the same for two copies of a data
   * set. The images are not part of it: a run leaves out those that cannot be decoded, and must go on once
   * they are mended. Each answer holds the size of its image instead.
   */
  readonly sha256: string;
  /** In the order of the file. */
  readonly questions: readonly Question[];
}

/** Questions of crowded scenes are reported under this name, whatever their kind. */
export const CROWDED: string = 'crowded';

const MAX_FILE_BYTES = 2 ** 28;
/** Most characters of an id or a kind: messages and tables hold them whole. */
const MAX_NAME = 200;
/** What an answer may be where the metric needs it to be one of a few words. */
const answers = new Map<string, readonly [RegExp, string]>([
  ['presence', [/^(yes|no)$/i, '"yes" or "no"']],
  ['choice', [/^[A-Z]$/, 'one capital letter']],
]);

/**
 * Reads and checks a data set: one JSON object a line, `{ id, image, kind, question, answer, crowded? }`,
 * `image` a path from the file's folder that does not leave it. Empty lines and other members are passed
 * over.
 * @throws DatasetError naming the line
 */
export async function readDataset(file: string): Promise<Dataset> {
  const bytes = await readBytes(file);
  const lines = decode(file, bytes).split('\n');
  const images = imageResolver(path.dirname(path.resolve(file)));
  const questions: Question[] = [];
  const lineOf = new Map<string, number>();
  for (const [index, line] of lines.entries()) {
    if (line.trim() === '') continue;
    try {
      const question = parseQuestion(line);
      const before = lineOf.get(question.id);
      if (before !== undefined) throw new DatasetError(`id "${question.id}" is that of line ${before} too`);
      lineOf.set(question.id, index + 1);
      const image = await images(question.image);
      questions.push({ ...question, image: image.path, imageBytes: image.size });
    } catch (cause) {
      if (!DatasetError.isInstance(cause)) throw cause;
      throw new DatasetError(`${file}, line ${index + 1}: ${cause.message}.`, { cause });
    }
  }
  if (questions.length === 0) throw new DatasetError(`${file} has no questions.`);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return { file: path.resolve(file), sha256, questions };
}

async function readBytes(file: string): Promise<Uint8Array> {
  const found = await stat(file).catch(() => null);
  if (!found)
    throw new DatasetError(`There is no file ${file}. A data set is a file of JSON lines beside its images.`);
  if (!found.isFile()) throw new DatasetError(`${file} is no file: name the JSON lines, not their folder.`);
  if (found.size > MAX_FILE_BYTES)
    throw new DatasetError(`${file} has ${found.size} bytes; at most ${MAX_FILE_BYTES} are read.`);
  return readFile(file).catch((cause: unknown) => {
    throw new DatasetError(`${file} cannot be read: ${(cause as Error).message}.`, { cause });
  });
}

function decode(file: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new DatasetError(`${file} is not UTF-8 text.`, { cause });
  }
}

/** With the image's path as it is written. */
function parseQuestion(line: string): Omit<Question, 'imageBytes'> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new DatasetError(`this is no JSON (${(cause as Error).message})`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new DatasetError('there must be one JSON object');
  const members = value as Record<string, unknown>;
  const text = (name: string): string => {
    const member = members[name];
    if (typeof member === 'string' && member.trim() !== '') return member;
    throw new DatasetError(`"${name}" must be a text that is not empty; received ${shorten(member)}`);
  };
  const { crowded = false } = members;
  if (typeof crowded !== 'boolean')
    throw new DatasetError(`"crowded" must be true or false; received ${shorten(crowded)}`);
  const question = {
    id: text('id'),
    image: text('image'),
    kind: text('kind'),
    question: text('question'),
    answer: text('answer'),
    crowded,
  };
  checkId(question);
  checkKind(question);
  return question;
}

function checkId({ id }: Pick<Question, 'id'>): void {
  if (id.length > MAX_NAME || id.includes(',') || id !== id.trim())
    throw new DatasetError(
      `"id" must have at most ${MAX_NAME} characters, no comma and no space around it, so that lists of ids can name it; received ${shorten(id)}`,
    );
}

function checkKind({ kind, answer }: Pick<Question, 'kind' | 'answer'>): void {
  if (kind.length > MAX_NAME || !/^[a-z][a-z0-9-]*$/.test(kind))
    throw new DatasetError(
      `"kind" must be of at most ${MAX_NAME} lower-case letters, digits and hyphens; received ${shorten(kind)}`,
    );
  if (kind === CROWDED)
    throw new DatasetError(`"${CROWDED}" is no kind: write "crowded": true beside the question's kind`);
  const [pattern, expected] = answers.get(kind) ?? [/./s, ''];
  if (!pattern.test(answer))
    throw new DatasetError(
      `the answer to a question of the kind ${kind} must be ${expected}; received ${shorten(answer)}`,
    );
}

/** Finds images by the paths that lines write, each once. */
function imageResolver(folder: string): (image: string) => Promise<{ path: string; size: number }> {
  const root = realpath(folder);
  const found = new Map<string, Promise<{ path: string; size: number }>>();
  const resolve = async (image: string): Promise<{ path: string; size: number }> => {
    const file = path.resolve(folder, image);
    if (path.isAbsolute(image) || isOutside(folder, file))
      throw new DatasetError(`the image ${shorten(image)} lies outside the data set's folder`);
    const real = await realpath(file).catch(() => null);
    if (real === null) throw new DatasetError(`there is no image ${shorten(image)} in the data set's folder`);
    if (isOutside(await root, real))
      throw new DatasetError(`the image ${shorten(image)} is a link out of the data set's folder`);
    const { size, isFile } = await stat(real).then((entry) => ({
      size: entry.size,
      isFile: entry.isFile(),
    }));
    if (!isFile) throw new DatasetError(`the image ${shorten(image)} is no file`);
    return { path: file, size };
  };
  return (image) => {
    const image_ = found.get(image) ?? resolve(image);
    found.set(image, image_);
    return image_;
  };
}

function isOutside(folder: string, file: string): boolean {
  const way = path.relative(folder, file);
  return way === '..' || way.startsWith(`..${path.sep}`) || path.isAbsolute(way);
}
