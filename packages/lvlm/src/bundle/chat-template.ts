/** The bundle's chat template: which of its files has it, and a conversation in it. */
import { BundleError, PromptError } from '../platform/errors.js';
import { BoundedTemplate } from './bounded-template.js';
import { findJson, findText } from './files.js';
import { isJson, reasonOf, type Json } from './json.js';

/** What {@link readChatTemplate} needs to know. */
export interface ChatTemplateFiles {
  readonly directory: string;
  readonly processor: Json;
  readonly tokenizerConfig: Json;
  /** The token that stands for one image in a prompt. */
  readonly imageToken: string;
  /** Texts of the special tokens by their name in tokenizer_config.json, which templates write. */
  readonly specialTokens: Readonly<Record<string, string>>;
}

/** The template that is used; null without any. */
export interface ChosenTemplate {
  readonly template: ChatTemplate | null;
  readonly warnings: readonly string[];
}

/** One template of a bundle. */
interface Source {
  readonly file: string;
  readonly text: string;
}

/** One turn of a conversation. */
export interface Turn {
  readonly role: 'system' | 'user' | 'assistant';
  readonly text: string;
  /** Number of images before the text. */
  readonly images: number;
}

/** A chat template. */
export class ChatTemplate {
  readonly #template: BoundedTemplate;
  readonly #variables: Readonly<Record<string, string>>;

  /** @throws whatever the parser throws */
  constructor(source: string, specialTokens: Readonly<Record<string, string>>) {
    this.#template = new BoundedTemplate(source);
    this.#variables = specialTokens;
  }

  /**
   * A conversation that the model is to answer.
   * @throws PromptError where the template fails
   */
  render(turns: readonly Turn[]): string {
    const messages = turns.map(({ role, text, images }) => {
      const pictures = Array.from({ length: images }, () => ({ type: 'image' }));
      return { role, content: [...pictures, { type: 'text', text }] };
    });
    try {
      return this.#template.render({ ...this.#variables, messages, add_generation_prompt: true });
    } catch (cause) {
      throw new PromptError(
        `The bundle's chat template fails on this prompt: ${reasonOf(cause)}. Use rawPrompt.`,
        { cause },
      );
    }
  }
}

/**
 * Chooses among the bundle's templates: the first with a place for images, in the order of the Python
 * library; without one, the first.
 * @throws BundleError where a file is damaged
 */
export async function readChatTemplate(files: ChatTemplateFiles): Promise<ChosenTemplate> {
  const sources = await templateSources(files);
  const templates = new Map<Source, ChatTemplate>();
  const chosen = sources.find((source) => {
    const template = parse(files, source);
    templates.set(source, template);
    return hasPlaceForImages(template, files.imageToken);
  });
  const used = chosen ?? sources.at(0);
  const others = sources.filter(({ text }) => text.trim() !== used?.text.trim());
  return {
    template: (used && templates.get(used)) ?? null,
    warnings: others.map(
      ({ file }) => `${used?.file} and ${file} have different chat templates: that of ${used?.file} is used.`,
    ),
  };
}

/** In the order in which the Python library takes them. */
async function templateSources({
  directory,
  processor,
  tokenizerConfig,
}: ChatTemplateFiles): Promise<Source[]> {
  const found: [file: string, text: string | null][] = [
    ['chat_template.jinja', await findText(directory, 'chat_template.jinja')],
    ['chat_template.json', templateOf((await findJson(directory, 'chat_template.json')) ?? {})],
    ['processor_config.json', templateOf(processor)],
    ['tokenizer_config.json', templateOf(tokenizerConfig)],
  ];
  return found.flatMap(([file, text]) => (text === null ? [] : [{ file, text }]));
}

/** A file has the template itself, or a list of named ones. */
function templateOf({ chat_template: value }: Json): string | null {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return null;
  const named = value.filter(isJson).find(({ name }) => name === 'default');
  return typeof named?.template === 'string' ? named.template : null;
}

function parse({ directory, specialTokens }: ChatTemplateFiles, { file, text }: Source): ChatTemplate {
  try {
    return new ChatTemplate(text, specialTokens);
  } catch (cause) {
    throw new BundleError(`${directory}: the chat template of ${file} cannot be used: ${reasonOf(cause)}`, {
      cause,
    });
  }
}

/** Templates for text alone leave images out, or fail on them. */
function hasPlaceForImages(template: ChatTemplate, imageToken: string): boolean {
  try {
    return template.render([{ role: 'user', text: 'text', images: 1 }]).includes(imageToken);
  } catch {
    return false;
  }
}
