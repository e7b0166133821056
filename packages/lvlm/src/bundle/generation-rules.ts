/** What generation_config.json says of the choice of tokens. */
import { BundleError } from '../platform/errors.js';
import { shown, type Json } from './json.js';

/** How tokens are chosen, as transformers does it. */
export interface GenerationRules {
  /** Divides positive logits of tokens that came before, images' included, and multiplies negative ones. 1: off. */
  readonly repetitionPenalty: number;
  /** Sampling is among that many of the likeliest tokens. 0: among all. */
  readonly topK: number;
  /**
   * Sampling is among the likeliest tokens whose probabilities sum to this. 1: among all; 0, which transformers
   * allows: the likeliest alone.
   */
  readonly topP: number;
  /** Sampling is among tokens at least this many times as likely as the likeliest. 0: among all. */
  readonly minP: number;
}

/** A bundle without a word of it. */
export const plainRules: GenerationRules = { repetitionPenalty: 1, topK: 0, topP: 1, minP: 0 };

/** Members of generation_config.json that change an answer and are not applied. */
const UNKNOWN = [
  'no_repeat_ngram_size',
  'suppress_tokens',
  'begin_suppress_tokens',
  'bad_words_ids',
  'forced_bos_token_id',
  'forced_eos_token_id',
  'min_length',
  'min_new_tokens',
];

/** Ranges of {@link GenerationRules}, for options and files alike. */
export const ruleRanges: Readonly<
  Record<keyof GenerationRules, { readonly allows: (value: number) => boolean; readonly text: string }>
> = {
  repetitionPenalty: { allows: (value) => value > 0, text: 'a number above 0' },
  topK: { allows: (value) => Number.isSafeInteger(value) && value >= 0, text: 'a whole number, 0 or more' },
  topP: { allows: (value) => value >= 0 && value <= 1, text: 'a number from 0 to 1' },
  minP: { allows: (value) => value >= 0 && value <= 1, text: 'a number from 0 to 1' },
};

/** Their names in the file. */
const NAMES: Readonly<Record<keyof GenerationRules, string>> = {
  repetitionPenalty: 'repetition_penalty',
  topK: 'top_k',
  topP: 'top_p',
  minP: 'min_p',
};

/** @throws BundleError on a value out of its range */
export function readGenerationRules(directory: string, json: Json): GenerationRules {
  const read = (rule: keyof GenerationRules): number => {
    const value = json[NAMES[rule]] ?? plainRules[rule];
    const { allows, text } = ruleRanges[rule];
    if (typeof value === 'number' && Number.isFinite(value) && allows(value)) return value;
    throw new BundleError(
      `${directory}: generation_config.json: ${NAMES[rule]} is ${shown(value)}; it must be ${text}.`,
    );
  };
  return {
    repetitionPenalty: read('repetitionPenalty'),
    topK: read('topK'),
    topP: read('topP'),
    minP: read('minP'),
  };
}

/** What the file asks for and is not applied, one sentence each. */
export function unknownRules(json: Json): string[] {
  const isActive = (value: unknown): boolean =>
    value !== undefined && value !== null && value !== 0 && !(Array.isArray(value) && value.length === 0);
  return UNKNOWN.filter((name) => isActive(json[name])).map(
    (name) => `generation_config.json asks for ${name}, which this runner does not apply.`,
  );
}
