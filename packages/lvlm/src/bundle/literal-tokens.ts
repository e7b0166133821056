/** Special tokens that a user writes are text: only the chat template's own are tokens. */
import { isJson, type Json } from './json.js';

/** What is used of the tokenizer's files. */
export interface TokenizerFiles {
  readonly tokenizer: Json;
  readonly tokenizerConfig: Json;
}

/**
 * Tells a user's special tokens from the template's, for the same tokenizer. The user's are replaced by marks
 * before the template is rendered. After it the special tokens that are left, the template's, get other
 * names, and the marks become again what they stood for. A tokenizer that knows the special tokens by these
 * names alone then reads both as they are meant, and everything else as the original does.
 */
export class LiteralTokens {
  /** By token: the template's other names for them, and the user's marks. */
  readonly #aliases = new Map<string, string>();
  readonly #marks = new Map<string, string>();
  /** By mark. */
  readonly #marked = new Map<string, string>();
  readonly #tokens: RegExp | null;
  readonly #tokensAndMarks: RegExp | null;

  constructor({ tokenizer }: TokenizerFiles) {
    const secret = privateCharacters(crypto.getRandomValues(new Uint8Array(8)));
    const tokens = specialTokens(tokenizer);
    for (const [index, token] of tokens.entries()) {
      const number = privateCharacters([index >> 16, (index >> 8) & 255, index & 255]);
      this.#aliases.set(token, `\uE000${secret}${number}`);
      this.#marks.set(token, `\uE001${secret}${number}`);
      this.#marked.set(`\uE001${secret}${number}`, token);
    }
    this.#tokens = anyOf(tokens);
    this.#tokensAndMarks = anyOf([...tokens, ...this.#marked.keys()]);
  }

  /** Whether a text has special tokens. */
  occurIn(text: string): boolean {
    return this.#tokens !== null && text.search(this.#tokens) >= 0;
  }

  /** The user's text for the template. */
  hide(text: string): string {
    return this.#tokens ? text.replace(this.#tokens, (token) => this.#marks.get(token) ?? token) : text;
  }

  /** The rendered template for a tokenizer of {@link renamed}. */
  reveal(rendered: string): string {
    return this.#tokensAndMarks
      ? rendered.replace(this.#tokensAndMarks, (found) => this.#marked.get(found) ?? this.#rename(found))
      : rendered;
  }

  /** The files of the tokenizer that knows the special tokens by their other names. */
  renamed({ tokenizer, tokenizerConfig }: TokenizerFiles): TokenizerFiles {
    const rename = (value: unknown): unknown => (typeof value === 'string' ? this.#rename(value) : value);
    const added = Array.isArray(tokenizer.added_tokens) ? tokenizer.added_tokens.filter(isJson) : [];
    return {
      tokenizer: {
        ...tokenizer,
        added_tokens: added.map((token) => ({ ...token, content: rename(token.content) })),
        post_processor: renamedStrings(tokenizer.post_processor, rename),
        model: isJson(tokenizer.model) ? renamedModel(tokenizer.model, rename) : tokenizer.model,
      },
      tokenizerConfig: { ...tokenizerConfig, eos_token: rename(tokenizerConfig.eos_token) },
    };
  }

  #rename(token: string): string {
    return this.#aliases.get(token) ?? token;
  }
}

/** Without the vocabulary's own entries of that name, which some models would find in a text. */
function renamedModel(model: Json, rename: (value: unknown) => unknown): Json {
  const { vocab, unk_token } = model;
  return {
    ...model,
    unk_token: rename(unk_token),
    vocab: Array.isArray(vocab)
      ? vocab.map((entry: unknown) =>
          Array.isArray(entry) ? [rename(entry[0]), ...(entry.slice(1) as unknown[])] : entry,
        )
      : isJson(vocab)
        ? Object.fromEntries(Object.entries(vocab).map(([token, id]) => [rename(token), id]))
        : vocab,
  };
}

function renamedStrings(json: unknown, rename: (value: unknown) => unknown): unknown {
  return json === undefined ? json : JSON.parse(JSON.stringify(json), (_, value: unknown) => rename(value));
}

/** Those that the tokenizer marks as special: other added tokens are words that a user may write. */
function specialTokens({ added_tokens: added }: Json): string[] {
  const tokens = Array.isArray(added) ? added.filter(isJson) : [];
  const special = tokens.filter((token) => token.special === true).map(({ content }) => content);
  return [...new Set(special)].filter(
    (content): content is string => typeof content === 'string' && content !== '',
  );
}

/** The longest of several that begin at one place, as the tokenizer takes it. */
function anyOf(words: readonly string[]): RegExp | null {
  if (words.length === 0) return null;
  const longestFirst = [...words].sort((a, b) => b.length - a.length);
  return new RegExp(longestFirst.map((word) => word.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')).join('|'), 'g');
}

/** Bytes as characters that no text has and no case, normalizer or trimming changes. */
function privateCharacters(bytes: Iterable<number>): string {
  return String.fromCharCode(...Array.from(bytes, (byte) => 0xe100 + byte));
}
