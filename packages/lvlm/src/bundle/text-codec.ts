/** Text to token ids and back: the bundle's tokenizer and its chat template. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { Template } from '@huggingface/jinja';
import { Tokenizer } from '@huggingface/tokenizers';
import { isJson, type Json } from './json.js';
import { BundleError, PromptError } from '../platform/errors.js';

/** What {@link readTextCodec} needs to know. */
interface TextFiles {
  readonly directory: string;
  readonly tokenizer: Json;
  readonly tokenizerConfig: Json;
  readonly imageTokenId: number;
  /** processor_config.json's image_token, where it says one. */
  readonly imageToken: unknown;
}

/** What is used of the tokenizer, whose own types Node's way of resolving modules does not find. */
interface TextTokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  decode(ids: readonly number[], options: { skip_special_tokens: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
}

const BundleTokenizer = Tokenizer as new (tokenizer: Json, config: Json) => TextTokenizer;

/** The bundle's tokenizer and chat template. */
export class TextCodec {
  /** The token that stands for one image in a prompt. */
  readonly imageToken: string;
  readonly #imageTokenId: number;
  readonly #tokenizer: TextTokenizer;
  readonly #template: Template | null;
  readonly #specialTokens: Readonly<Record<string, string>>;

  constructor(
    tokenizer: TextTokenizer,
    template: Template | null,
    specialTokens: Readonly<Record<string, string>>,
    imageTokenId: number,
    imageToken: string,
  ) {
    this.#tokenizer = tokenizer;
    this.#template = template;
    this.#specialTokens = specialTokens;
    this.#imageTokenId = imageTokenId;
    this.imageToken = imageToken;
  }

  /**
   * The user's turn in the bundle's chat template, with `images` images before the text.
   * @throws PromptError where there is no template, it fails, or the text itself holds the image token
   */
  render(text: string, images: number): string {
    if (!this.#template)
      throw new PromptError(
        'This bundle has no chat template: use rawPrompt, with the image token where each image belongs.',
      );
    if (text.includes(this.imageToken)) {
      throw new PromptError(
        `prompt contains ${this.imageToken}, which the chat template writes: leave it out, or use rawPrompt.`,
      );
    }
    const content = [...Array.from({ length: images }, () => ({ type: 'image' })), { type: 'text', text }];
    try {
      return this.#template.render({
        ...this.#specialTokens,
        messages: [{ role: 'user', content }],
        add_generation_prompt: true,
      });
    } catch (cause) {
      throw new PromptError(
        `The bundle's chat template fails on this prompt: ${(cause as Error).message}. Use rawPrompt.`,
        { cause },
      );
    }
  }

  /**
   * Token ids of a prompt. The tokenizer adds its begin token unless the text starts with it (the rule of the Python library).
   * @param images how many image tokens there must be
   * @throws PromptError on another number of image tokens
   */
  encode(text: string, images: number): number[] {
    const begin = this.#specialTokens.bos_token;
    const ids = this.#tokenizer.encode(text, { add_special_tokens: !(begin && text.startsWith(begin)) }).ids;
    const found = ids.filter((id) => id === this.#imageTokenId).length;
    if (found !== images) {
      throw new PromptError(
        `The prompt has ${found} times ${this.imageToken} for ${images} images: it must have one for each image.`,
      );
    }
    if (ids.length === images) throw new PromptError('The prompt has no text.');
    return ids;
  }

  /** The text of token ids, without special tokens. */
  decode(ids: readonly number[]): string {
    return ids.length === 0 ? '' : this.#tokenizer.decode(ids, { skip_special_tokens: true });
  }
}

/**
 * Makes a bundle's tokenizer and template.
 * @throws BundleError where a file is damaged, or the image token is not the tokenizer's
 */
export async function readTextCodec({
  directory,
  tokenizer,
  tokenizerConfig,
  imageTokenId,
  imageToken,
}: TextFiles): Promise<TextCodec> {
  const codec = attempt(directory, 'tokenizer.json', () => new BundleTokenizer(tokenizer, tokenizerConfig));
  const token = typeof imageToken === 'string' ? imageToken : codec.id_to_token(imageTokenId);
  if (token === undefined || codec.token_to_id(token) !== imageTokenId) {
    throw new BundleError(
      `${directory}: tokenizer.json has no token ${imageTokenId}${token ? ` that reads ${token}` : ''}, the image token of config.json: the files are of different models.`,
    );
  }
  const source = chatTemplate(tokenizerConfig) ?? (await chatTemplateFile(directory));
  const template = source === null ? null : attempt(directory, 'chat template', () => new Template(source));
  return new TextCodec(codec, template, specialTokens(tokenizerConfig), imageTokenId, token);
}

/** tokenizer_config.json has the template itself, or a list of named ones. */
function chatTemplate(config: Json): string | null {
  const value = config.chat_template;
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return null;
  const named = value.filter(isJson).find(({ name }) => name === 'default');
  return typeof named?.template === 'string' ? named.template : null;
}

/** Newer bundles have chat_template.jinja, some chat_template.json. */
async function chatTemplateFile(directory: string): Promise<string | null> {
  const jinja = await readFile(path.join(directory, 'chat_template.jinja'), 'utf8').catch(() => null);
  if (jinja !== null) return jinja;
  const json = await readFile(path.join(directory, 'chat_template.json'), 'utf8').catch(() => null);
  if (json === null) return null;
  const value: unknown = attempt(directory, 'chat_template.json', () => JSON.parse(json) as unknown);
  return isJson(value) ? chatTemplate(value) : null;
}

function specialTokens(config: Json): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const name of ['bos_token', 'eos_token', 'pad_token', 'unk_token']) {
    const value = config[name];
    const text = isJson(value) ? value.content : value;
    if (typeof text === 'string') tokens[name] = text;
  }
  return tokens;
}

function attempt<T>(directory: string, what: string, make: () => T): T {
  try {
    return make();
  } catch (cause) {
    throw new BundleError(`${directory}: the ${what} cannot be used: ${(cause as Error).message}`, { cause });
  }
}
