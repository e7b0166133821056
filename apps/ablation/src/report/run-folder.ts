/** Reads what `foveate ablate` left in a folder, and trusts none of it. */
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { ResultsError, type AnswerRecord, type Summary } from '@foveate/eval';
import { devices, dtypes, type Dtype } from '@foveate/lvlm';
import { z } from 'zod';

/** The answers to one question, by the SPEC of the row. */
export type AnswersByReducer = ReadonlyMap<string, Pick<AnswerRecord, 'text' | 'correct' | 'imageBytes'>>;

const share = z.number().min(0).max(1);
const amount = z.number().min(0);
const accuracy = z.looseObject({ n: amount, accuracy: share });
const signedShare = z.number().min(-1).max(1);
const difference = z.looseObject({
  difference: signedShare,
  ci95: z.tuple([signedShare, signedShare]),
  ...{ onlyThis: amount, onlyOther: amount, pHolm: share },
});
const row = z.looseObject({
  reducer: z.string().min(1).max(1000), // goes into messages and cells whole
  keep: share,
  ...{ keptTokens: amount, equivalentTokens: amount },
  steps: z.array(z.looseObject({ keptTokens: amount })),
  draws: z.looseObject({ n: amount, lowest: share, mean: share, highest: share }).optional(),
  againstNone: difference.nullable(),
  questions: amount,
  accuracy: share,
  ci95: z.tuple([share, share]),
  byKind: z.record(z.string().max(200), accuracy),
  ...{ ttftMs: amount, visionMs: amount, reduceMs: amount, prefillMs: amount },
  ...{ tpotMs: amount.nullable(), kvBytes: amount, peakRssBytes: amount.nullable() },
  warnings: z.array(z.string()),
});
const dtype = z.enum(dtypes as readonly [Dtype, ...Dtype[]]);
/** What the report reads of summary.json; further members are passed on. */
const summarySchema = z.looseObject({
  model: z.looseObject({
    ...{ directory: z.string(), sha256: z.string(), modelType: z.string(), layers: amount },
    dtypes: z.object({ vision_encoder: dtype, embed_tokens: dtype, decoder_model_merged: dtype }),
    device: z.enum(devices),
  }),
  data: z.looseObject({ file: z.string(), sha256: z.string(), questions: amount, limit: amount }),
  skipped: z
    .looseObject({ questions: amount, images: z.array(z.string()) })
    .default({ questions: 0, images: [] }), // what there was before it was recorded
  preset: z.string().nullable(),
  omitted: z.array(z.looseObject({ reducer: z.string(), reason: z.string() })).default([]), // likewise
  equalBy: z.enum(['keptTokens', 'equivalentTokens']).default('keptTokens'), // likewise
  backend: z.string().default('onnx'), // what there was before it was recorded
  per: z.enum(['crop', 'image']),
  ...{ seed: amount, resamples: amount },
  latencyQuestions: amount,
  machine: z.looseObject({
    ...{ platform: z.string(), arch: z.string(), cpu: z.string(), cores: amount, memoryBytes: amount },
    versions: z.looseObject({ node: z.string(), onnxruntime: z.string(), foveate: z.string() }),
  }),
  comparisons: z.array(difference.extend({ reducer: z.string(), other: z.string() })),
  rows: z
    .array(row)
    .min(1)
    .refine(
      (rows) => new Set(rows.map(({ reducer }) => reducer)).size === rows.length,
      'a row is there twice',
    )
    .refine((rows) => new Set(rows.map(kindsOf)).size === 1, 'the rows are of different questions'),
});
const answerSchema = z.looseObject({
  ...{ id: z.string(), reducer: z.string(), text: z.string(), correct: z.boolean(), imageBytes: amount },
});

function kindsOf({ byKind }: z.infer<typeof row>): string {
  return JSON.stringify(Object.entries(byKind).map(([kind, { n }]) => [kind, n]));
}

/**
 * The summary of a finished run.
 * @throws ResultsError where the folder has none, or a damaged one, or one of another program
 */
export async function readSummary(folder: string): Promise<Summary> {
  const file = path.join(folder, 'summary.json');
  const text = await readText(file);
  if (text === null) throw new ResultsError(await whyNoSummary(folder));
  const read = summarySchema.safeParse(parseJson(text));
  if (read.success) return read.data as unknown as Summary;
  throw new ResultsError(
    `${file} is no whole summary of "foveate ablate" (${firstIssue(read.error)}). Run the comparison again, or name another folder.`,
  );
}

async function whyNoSummary(folder: string): Promise<string> {
  const isUnfinished = (await readText(path.join(folder, 'run.json'))) !== null;
  return isUnfinished
    ? `${folder} holds an unfinished run. Finish it first: the same "foveate ablate" command with --resume.`
    : `${folder} has no summary.json, so it is no folder of a run. Name the --out folder of "foveate ablate" (default: out).`;
}

/**
 * The answers of a run: question id -> SPEC -> answer.
 * @throws ResultsError naming a damaged line
 */
export async function readAnswers(folder: string): Promise<ReadonlyMap<string, AnswersByReducer>> {
  const file = path.join(folder, 'answers.jsonl');
  const text = await readText(file);
  if (text === null)
    throw new ResultsError(`${folder} has no answers.jsonl. Leave the examples out with --no-questions.`);
  const answers = new Map<string, Map<string, z.infer<typeof answerSchema>>>();
  for (const [index, line] of text.trimEnd().split('\n').entries()) {
    const read = answerSchema.safeParse(parseJson(line));
    if (!read.success)
      throw new ResultsError(
        `${file}, line ${index + 1} is no answer (${firstIssue(read.error)}). Run the comparison again, or leave the examples out with --no-questions.`,
      );
    const { id, reducer } = read.data;
    const ofQuestion = answers.get(id) ?? new Map<string, z.infer<typeof answerSchema>>();
    answers.set(id, ofQuestion.set(reducer, read.data));
  }
  return answers;
}

/** Undefined, which no schema takes, where the text is no JSON. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function firstIssue({ issues: [{ path: members, message }] }: z.ZodError): string {
  const place = members.join('.').slice(0, 100); // names of kinds are the file's
  return place === '' ? message : `${place}: ${message}`;
}

/** Null where there is no such file, or no such folder. */
async function readText(file: string): Promise<string | null> {
  try {
    if ((await stat(file)).isFile()) return await readFile(file, 'utf8');
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw new ResultsError(`${file} cannot be read: ${message}.`, { cause });
  }
  throw new ResultsError(`${file} is no regular file.`); // reading a pipe or a device may never end
}
