/** Reads the case files. */
import { readFile } from 'node:fs/promises';
import type { CaseArray, InputsOf, ParamsOf } from './inputs.js';

export type { CaseArray } from './inputs.js';

/** A method that there are cases of. */
export type MethodName = keyof InputsOf;

/** All of them, in the order of the README. */
export const methodNames: readonly MethodName[] = [
  ...(['visionzip', 'vispruner', 'cdpruner', 'hiprune'] as const),
  ...(['dart', 'pyramiddrop', 'sparsevlm'] as const),
];

/** There are no cases of the method that was asked for. */
export class UnknownMethodError extends Error {
  override readonly name = 'UnknownMethodError';
}

/** What one call of the official code got, and what it chose. */
export interface MethodCase<M extends MethodName = MethodName> {
  readonly name: string;
  /** As the file has them, those of `ParamsOf` and more. */
  readonly params: ParamsOf[M];
  readonly inputs: InputsOf[M];
  /** What the inputs are, where their names do not say it. */
  readonly inputNote: string;
  /** Ascending positions of the kept tokens, a list a stage; null: they are not to be compared. */
  readonly kept: readonly (readonly number[])[] | null;
  /** Why not; empty where they are. */
  readonly whyNotCompared: string;
  /** What else the official code gave, as the file has it, arrays decoded. */
  readonly outputs: Readonly<Record<string, unknown>>;
  /** By how much its decisions were clear, and whether half precision decides the same. */
  readonly facts: Readonly<Record<string, unknown>>;
}

/** The cases of one method. */
export interface CasesOfMethod<M extends MethodName = MethodName> {
  /** As its authors write it. */
  readonly method: string;
  /** Repository, commit, licence, and what it was run with. */
  readonly source: Readonly<Record<'repo' | 'commit' | 'run_with' | 'licence', string>>;
  readonly note: string;
  readonly cases: readonly MethodCase<M>[];
}

/** What a case is put to: the kept positions in any order, or of a method of several stages a list of them. */
export type Implementation<M extends MethodName = MethodName> = (
  one: Pick<MethodCase<M>, 'name' | 'params' | 'inputs'>,
) => Kept | Promise<Kept>;

/** What it gives. */
export type Kept = ArrayLike<number> | readonly ArrayLike<number>[];

/**
 * The cases of a method.
 * @throws UnknownMethodError
 * @example
 * const { cases } = await casesOf('vispruner');
 * console.log(cases[0].inputs.hidden_states.shape); // [577, 32]
 */
export async function casesOf<M extends MethodName>(method: M): Promise<CasesOfMethod<M>> {
  if (!methodNames.includes(method))
    throw new UnknownMethodError(
      `There are no cases of ${JSON.stringify(method)}; there are of ${methodNames.join(', ')}.`,
    );
  const text = await readFile(new URL(`../cases/${method}.json`, import.meta.url), 'utf8');
  const { cases, ...file } = JSON.parse(text, decodeArray) as CasesOfMethod & { cases: CaseInFile[] };
  return { ...file, cases: cases.map(readCase) as unknown as MethodCase<M>[] };
}

/** A case as the file has it. */
type CaseInFile = Omit<MethodCase, 'inputNote' | 'whyNotCompared'> & {
  readonly input_note?: string;
  readonly why_not_compared?: string;
};

function readCase({ input_note: inputNote = '', why_not_compared: whyNotCompared = '', ...one }: CaseInFile) {
  return { ...one, inputNote, whyNotCompared };
}

/** A reviver: `{ dtype: 'f32le', shape, b64 }` becomes an array; whatever else stays. */
function decodeArray(_: string, value: unknown): unknown {
  const { dtype, shape, b64 } = Object(value) as { dtype?: string; shape?: number[]; b64?: string };
  if (dtype !== 'f32le' || shape === undefined || b64 === undefined) return value;
  const bytes = Buffer.from(b64, 'base64');
  const values = Float32Array.from({ length: bytes.length / 4 }, (__, index) => bytes.readFloatLE(4 * index));
  return { shape, values } satisfies CaseArray;
}
