/** The caller's options, checked and with their defaults. */
import { checkReducer, InvalidArgumentError, type TensorBackend, type TokenReducer } from '@foveate/core';
import { checkDevice, type Device } from '../platform/devices.js';
import { PromptError } from '../platform/errors.js';
import { DEFAULT_MAX_PIXELS } from '../platform/image-files.js';
import type { Turn } from '../bundle/chat-template.js';
import { checkDtype, type DtypeChoice } from '../bundle/dtypes.js';
import { ruleRanges, type GenerationRules } from '../bundle/generation-rules.js';
import type { Newlines } from '../families/family.js';
import type { GenerateOptions, ImageInput, LoadOptions, Message } from './options-and-results.js';

/** One call's options. */
export interface CheckedCall {
  readonly images: readonly ImageInput[];
  /** The conversation for the chat template, or the prompt word for word. */
  readonly prompt: readonly Turn[] | string;
  readonly reducers: readonly TokenReducer[];
  readonly per: 'crop' | 'image';
  readonly maxNewTokens: number;
  readonly temperature: number;
  readonly seed: number;
  /** Those that the caller gave; the bundle's stand for the others. */
  readonly rules: Partial<GenerationRules>;
  readonly reuseEncoding: boolean;
  readonly abortSignal: AbortSignal | undefined;
  readonly onToken: GenerateOptions['onToken'];
}

const ROLES: readonly Message['role'][] = ['system', 'user', 'assistant'];
const PER = ['crop', 'image'] as const;
const NEWLINES: readonly Newlines[] = ['drop', 'keep', 'nonempty'];
/** Longer texts are refused before a tokenizer works on them: no model's context holds so much. */
const MAX_PROMPT_CHARACTERS = 2 ** 21;
const MAX_IMAGES = 256;
/** Of one session: with 1024 of them onnxruntime hangs. */
const MAX_THREADS = 256;

/** @throws InvalidArgumentError, PromptError */
export function checkGenerateOptions(options: GenerateOptions): CheckedCall {
  const {
    reducers = [],
    per = 'crop',
    maxNewTokens = 64,
    temperature = 0,
    seed = 0,
    reuseEncoding = false,
    abortSignal,
    onToken,
  } = options;
  if (!PER.includes(per)) throw new InvalidArgumentError('per', per, `one of ${PER.join(', ')}`);
  if (!isInteger(maxNewTokens, 1, 2 ** 20))
    throw new InvalidArgumentError('maxNewTokens', maxNewTokens, 'an integer from 1 to 1,048,576');
  if (!(Number.isFinite(temperature) && temperature >= 0))
    throw new InvalidArgumentError('temperature', temperature, 'a number, 0 or above');
  if (!isInteger(seed, 0, 2 ** 32 - 1))
    throw new InvalidArgumentError('seed', seed, 'an integer in [0, 2^32)');
  if (onToken !== undefined && typeof onToken !== 'function')
    throw new InvalidArgumentError('onToken', onToken, 'a function');
  return {
    ...checkPrompt(options),
    reducers: checkReducers(reducers),
    per,
    maxNewTokens,
    temperature,
    seed,
    rules: checkRules(options),
    reuseEncoding,
    abortSignal,
    onToken,
  };
}

/** @throws InvalidArgumentError, PromptError */
function checkPrompt(options: GenerateOptions): Pick<CheckedCall, 'images' | 'prompt'> {
  const { prompt, rawPrompt, messages, images = [] } = options;
  if ([prompt, rawPrompt, messages].filter((given) => given !== undefined).length !== 1) {
    throw new InvalidArgumentError(
      'prompt',
      prompt,
      'a string, and exactly one of prompt, rawPrompt and messages is given',
    );
  }
  if (messages !== undefined) {
    if (images.length > 0)
      throw new InvalidArgumentError(
        'images',
        images,
        'none beside messages, which have images of their own',
      );
    return checkMessages(messages);
  }
  const name = prompt === undefined ? 'rawPrompt' : 'prompt';
  const text = checkText(name, prompt ?? rawPrompt);
  checkLength(text.length);
  checkImages('images', images);
  return { images, prompt: prompt === undefined ? text : [{ role: 'user', text, images: images.length }] };
}

/** @throws InvalidArgumentError, PromptError */
function checkMessages(messages: readonly Message[]): Pick<CheckedCall, 'images' | 'prompt'> {
  const isList: boolean = Array.isArray(messages);
  if (!isList || messages.at(-1)?.role !== 'user')
    throw new InvalidArgumentError('messages', messages, 'an array that ends with a message of the user');
  const turns = messages.map((message, i): Turn => {
    const { role, content, images = [] } = (message as Partial<Message> | null) ?? {};
    if (role === undefined || !ROLES.includes(role))
      throw new InvalidArgumentError(`messages[${i}].role`, role, `one of ${ROLES.join(', ')}`);
    checkImages(`messages[${i}].images`, images);
    const text = role === 'user' ? checkText(`messages[${i}].content`, content) : content;
    if (typeof text !== 'string') throw new InvalidArgumentError(`messages[${i}].content`, text, 'a string');
    return { role, text, images: images.length };
  });
  checkLength(turns.reduce((sum, { text }) => sum + text.length, 0));
  const images = messages.flatMap((message) => message.images ?? []);
  checkImages('messages', images);
  return { images, prompt: turns };
}

/** @throws InvalidArgumentError, PromptError */
function checkText(name: string, text: unknown): string {
  if (typeof text !== 'string') throw new InvalidArgumentError(name, text, 'a string');
  if (text.trim() === '') throw new PromptError(`${name} is empty.`);
  return text;
}

/** @throws PromptError */
function checkLength(characters: number): void {
  if (characters <= MAX_PROMPT_CHARACTERS) return;
  throw new PromptError(
    `The prompt has ${characters} characters; at most ${MAX_PROMPT_CHARACTERS} are read.`,
  );
}

/** @throws InvalidArgumentError */
function checkImages(name: string, images: readonly ImageInput[]): void {
  if (Array.isArray(images) && images.length <= MAX_IMAGES) return;
  throw new InvalidArgumentError(name, images, `an array of at most ${MAX_IMAGES} images`);
}

/** @throws InvalidArgumentError */
export function checkLoadOptions({
  dtype = 'auto',
  device = 'cpu',
  threads,
  reducers = [],
  backend,
  newlines = 'drop',
  cacheDirectory,
  maxImagePixels = DEFAULT_MAX_PIXELS,
  maxChatBytes = 2 ** 30,
}: LoadOptions): {
  readonly dtype: DtypeChoice;
  readonly device: Device;
  readonly threads: number | undefined;
  readonly reducers: readonly TokenReducer[];
  readonly backend: TensorBackend<unknown> | null;
  readonly newlines: Newlines;
  readonly cacheDirectory: string | undefined;
  readonly maxImagePixels: number;
  readonly maxChatBytes: number;
} {
  checkDtype(dtype);
  checkDevice(device);
  if (!NEWLINES.includes(newlines))
    throw new InvalidArgumentError('newlines', newlines, `one of ${NEWLINES.join(', ')}`);
  if (threads !== undefined && !isInteger(threads, 1, MAX_THREADS))
    throw new InvalidArgumentError('threads', threads, `an integer from 1 to ${MAX_THREADS}`);
  if (!isInteger(maxImagePixels, 1, 2 ** 30))
    throw new InvalidArgumentError('maxImagePixels', maxImagePixels, 'an integer from 1 to 2^30');
  if (!isInteger(maxChatBytes, 0, Number.MAX_SAFE_INTEGER))
    throw new InvalidArgumentError('maxChatBytes', maxChatBytes, 'a number of bytes, 0 or above');
  return {
    dtype,
    device,
    threads,
    reducers: checkReducers(reducers),
    backend: backend === undefined ? null : checkBackend(backend),
    newlines,
    cacheDirectory,
    maxImagePixels,
    maxChatBytes,
  };
}

/** @throws InvalidArgumentError */
function checkRules(options: GenerateOptions): Partial<GenerationRules> {
  const names = Object.keys(ruleRanges) as (keyof GenerationRules)[];
  const given = names.flatMap((name) => {
    const value = options[name];
    if (value === undefined) return [];
    const { allows, text } = ruleRanges[name];
    if (!Number.isFinite(value) || !allows(value)) throw new InvalidArgumentError(name, value, text);
    return [[name, value] as const];
  });
  return Object.fromEntries(given);
}

function checkBackend(backend: TensorBackend<unknown>): TensorBackend<unknown> {
  const operations = [
    'upload',
    'download',
    'dispose',
    'marginals',
    'nearest',
    'similarity',
    'applyPlan',
  ] as const;
  const given = (backend as Partial<typeof backend> | null) ?? {};
  if (operations.every((operation) => typeof given[operation] === 'function')) return backend;
  throw new InvalidArgumentError(
    'backend',
    backend,
    'a TensorBackend, such as referenceBackend of @foveate/core or what loadBackend of @foveate/tfjs loads',
  );
}

/** @throws InvalidArgumentError */
export function checkReducers(reducers: readonly TokenReducer[]): readonly TokenReducer[] {
  const isList: boolean = Array.isArray(reducers);
  if (!isList) throw new InvalidArgumentError('reducers', reducers, 'an array of reducers');
  for (const [index, reducer] of reducers.entries()) checkReducer(`reducers[${index}]`, reducer);
  return [...reducers];
}

function isInteger(value: number, lowest: number, highest: number): boolean {
  return Number.isInteger(value) && value >= lowest && value <= highest;
}
