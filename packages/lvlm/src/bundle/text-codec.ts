/** Text to token ids and back: the bundle's tokenizer and its chat template. */
import { Tokenizer } from '@huggingface/tokenizers';
import { readChatTemplate, type ChatTemplate, type Turn } from './chat-template.js';
import { cut, isJson, reasonOf, type Json } from './json.js';
import { LiteralTokens, type TokenizerFiles } from './literal-tokens.js';
import { BundleError, PromptError } from '../platform/errors.js';

/** What {@link readTextCodec} needs to know. */
interface TextFiles extends TokenizerFiles {
  readonly directory: string;
  readonly processor: Json;
  readonly imageTokenId: number;
}

/** What is used of a tokenizer, whose own types Node's way of resolving modules does not find. */
interface TextTokenizer {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
  decode(ids: readonly number[], options: { skip_special_tokens: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
}

/** How special tokens in a user's text stay text. */
interface LiteralText {
  readonly tokens: LiteralTokens;
  /** Made when a text first needs it: a vocabulary is large. */
  readonly tokenizer: () => TextTokenizer;
}

/** What a codec is made of. */
interface CodecParts {
  readonly tokenizer: TextTokenizer;
  readonly literal: LiteralText;
  readonly template: ChatTemplate | null;
  readonly specialTokens: Readonly<Partial<Record<string, string>>>;
  readonly imageTokenId: number;
  readonly imageToken: string;
  readonly warnings: readonly string[];
}

const BundleTokenizer = Tokenizer as new (tokenizer: Json, config: Json) => TextTokenizer;

/** The bundle's tokenizer and chat template. */
export class TextCodec {
  /** The token that stands for one image in a prompt. */
  readonly imageToken: string;
  /** Of the end token that tokenizer_config.json names; undefined without one. */
  readonly endTokenId: number | undefined;
  /** What is doubtful about the template, one sentence each. */
  readonly warnings: readonly string[];
  readonly #parts: CodecParts;

  constructor(parts: CodecParts) {
    this.#parts = parts;
    this.imageToken = parts.imageToken;
    this.warnings = parts.warnings;
    const end = parts.specialTokens.eos_token;
    this.endTokenId = end === undefined ? undefined : parts.tokenizer.token_to_id(end);
  }

  /**
   * A conversation in the bundle's chat template.
   * @throws PromptError where there is no template, it fails, or a text itself holds the image token
   */
  render(turns: readonly Turn[]): string {
    const { template } = this.#parts;
    if (!template)
      throw new PromptError(
        'This bundle has no chat template: use rawPrompt, with the image token where each image belongs.',
      );
    if (turns.some(({ text }) => text.includes(this.imageToken))) {
      throw new PromptError(
        `The prompt contains ${cut(this.imageToken)}, which the chat template writes: leave it out, or use rawPrompt.`,
      );
    }
    return template.render(turns);
  }

  /**
   * Token ids of a conversation in the chat template. Special tokens in its texts are text.
   * @throws PromptError as {@link render} and {@link encode} do
   */
  encodeTurns(turns: readonly Turn[]): number[] {
    const { tokens, tokenizer } = this.#parts.literal;
    const images = turns.reduce((sum, turn) => sum + turn.images, 0);
    const plain = this.render(turns);
    if (!turns.some(({ text }) => tokens.occurIn(text))) return this.encode(plain, images);
    const rendered = this.render(turns.map((turn) => ({ ...turn, text: tokens.hide(turn.text) })));
    return this.#encode(tokenizer(), rendered, tokens.reveal(rendered), images);
  }

  /**
   * Token ids of a prompt. The tokenizer adds its begin token unless the text starts with it (the rule of the
   * Python library).
   * @param images how many image tokens there must be
   * @throws PromptError on another number of image tokens
   */
  encode(text: string, images: number): number[] {
    return this.#encode(this.#parts.tokenizer, text, text, images);
  }

  /**
   * Token ids of what a family writes in the prompt for one image; none for the empty text.
   * @param crops how many image tokens there must be
   * @throws BundleError on another number
   */
  encodeImage(text: string, crops: number): number[] {
    if (text === '') return [];
    const { tokenizer, imageTokenId } = this.#parts;
    const { ids } = tokenizer.encode(text, { add_special_tokens: false });
    const found = ids.filter((id) => id === imageTokenId).length;
    if (found === crops) return ids;
    throw new BundleError(
      `The tokenizer reads ${found} times ${cut(this.imageToken)} in what is written for an image of ${crops} crops: tokenizer.json is of another model.`,
    );
  }

  /** @param written what the tokenizer reads as `text` */
  #encode(tokenizer: TextTokenizer, text: string, written: string, images: number): number[] {
    const { specialTokens, imageTokenId } = this.#parts;
    const begin = specialTokens.bos_token;
    const { ids } = tokenizer.encode(written, { add_special_tokens: !(begin && text.startsWith(begin)) });
    const found = ids.filter((id) => id === imageTokenId).length;
    if (found !== images) {
      throw new PromptError(
        `The prompt has ${found} times ${cut(this.imageToken)} for ${images} images: it must have one for each image.`,
      );
    }
    if (ids.length === images) throw new PromptError('The prompt has no text.');
    return ids;
  }

  /** The text of token ids, without special tokens. */
  decode(ids: readonly number[]): string {
    return ids.length === 0 ? '' : this.#parts.tokenizer.decode(ids, { skip_special_tokens: true });
  }
}

/**
 * Makes a bundle's tokenizer and template.
 * @throws BundleError where a file is damaged, or the image token is not the tokenizer's
 */
export async function readTextCodec(files: TextFiles): Promise<TextCodec> {
  const { directory, tokenizerConfig, processor, imageTokenId } = files;
  const tokenizer = attempt(
    directory,
    'tokenizer.json',
    () => new BundleTokenizer(files.tokenizer, tokenizerConfig),
  );
  const imageToken =
    typeof processor.image_token === 'string' ? processor.image_token : tokenizer.id_to_token(imageTokenId);
  if (imageToken === undefined || tokenizer.token_to_id(imageToken) !== imageTokenId) {
    throw new BundleError(
      `${directory}: tokenizer.json has no token ${imageTokenId}${imageToken ? ` that reads ${cut(imageToken)}` : ''}, the image token of config.json: the files are of different models.`,
    );
  }
  const specialTokens = specialTokensOf(tokenizerConfig);
  const chosen = await readChatTemplate({ ...files, imageToken, specialTokens });
  const literal = literalText(files);
  return new TextCodec({ tokenizer, literal, ...chosen, specialTokens, imageTokenId, imageToken });
}

function literalText(files: TextFiles): LiteralText {
  const tokens = new LiteralTokens(files);
  let made: TextTokenizer | undefined;
  return {
    tokens,
    tokenizer: () => {
      if (made) return made;
      const { tokenizer, tokenizerConfig } = tokens.renamed(files);
      return (made = new BundleTokenizer(tokenizer, tokenizerConfig));
    },
  };
}

function specialTokensOf(config: Json): Record<string, string> {
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
    throw new BundleError(`${directory}: the ${what} cannot be used: ${reasonOf(cause)}`, { cause });
  }
}
