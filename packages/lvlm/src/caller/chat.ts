/** A conversation with a model: its messages, and what the engine keeps of it between two turns. */
import { InvalidArgumentError, type TokenReducer } from '@foveate/core';
import { DisposedError } from '../platform/errors.js';
import { now } from '../platform/clock.js';
import { unlessAborted } from './abort.js';
import { answerStream } from './answer-stream.js';
import type { FeaturePlans } from './call.js';
import { checkGenerateOptions } from './options.js';
import type {
  GeneratedToken,
  GenerateOptions,
  GenerateResult,
  ImageInput,
  Message,
} from './options-and-results.js';

/** Options of {@link Lvlm.chat}. */
export interface ChatOptions {
  /** Images of the first question, before those that come with it. Default `[]`. */
  readonly images?: readonly ImageInput[];
  /** What reduces the visual tokens, as in {@link GenerateOptions}; the same in every turn. Default `[]`. */
  readonly reducers?: readonly TokenReducer[];
  /** What has a budget of its own, as in {@link GenerateOptions}; the same in every turn. Default `'crop'`. */
  readonly per?: 'crop' | 'image';
  /** What was said before, such as a system message or a conversation that was saved. Default `[]`. */
  readonly messages?: readonly Message[];
}

/** Options of {@link Chat.ask}: those of {@link Lvlm.generate} that are not the chat's. */
export type AskOptions = Omit<GenerateOptions, 'prompt' | 'rawPrompt' | 'messages' | 'reducers' | 'per'>;

/** What the engine keeps of a turn, and the plans that its images were reduced by. */
export interface TurnBehind {
  /** Its number in the engine. */
  readonly turn: number;
  readonly plans: FeaturePlans;
}

/** What a turn gave. */
export interface AnsweredTurn {
  readonly result: GenerateResult;
  /** Null outside chats. */
  readonly behind: TurnBehind | null;
}

/** What a chat needs of its model. */
interface ChatModel {
  readonly answer: (
    call: GenerateOptions,
    calledAt: number,
    behind: TurnBehind | null,
  ) => Promise<AnsweredTurn>;
  readonly forget: (turn: number) => void;
}

/** A turn that chats go on behind; the last of them that lets it go has the engine forget it. */
class SharedTurn {
  readonly behind: TurnBehind;
  readonly #forget: (turn: number) => void;
  #chats = 1;

  constructor(behind: TurnBehind, forget: (turn: number) => void) {
    this.behind = behind;
    this.#forget = forget;
  }

  share(): this {
    this.#chats++;
    return this;
  }

  release(): void {
    if (--this.#chats === 0) this.#forget(this.behind.turn);
  }
}

const GONE = 'The chat was disposed: begin another with its messages to go on.';

/** What a chat is at one time. */
interface ChatState {
  readonly messages: readonly Message[];
  readonly last: SharedTurn | null;
}

/** @throws InvalidArgumentError, PromptError */
export function checkChatOptions({
  images = [],
  reducers = [],
  per = 'crop',
  messages = [],
}: ChatOptions): Required<ChatOptions> {
  const isList: boolean = Array.isArray(messages);
  if (!isList) throw new InvalidArgumentError('messages', messages, 'an array of messages');
  if (messages.at(-1)?.role === 'user')
    throw new InvalidArgumentError(
      'messages',
      messages,
      'what was said before the first question, which ask takes',
    );
  checkGenerateOptions({ messages: [...messages, { role: 'user', content: '?', images }], reducers, per });
  return { images: [...images], reducers: [...reducers], per, messages: [...messages] };
}

/**
 * A conversation. Images are encoded and reduced in the turn that they come with, and of every later turn the
 * model runs only the tokens that are new: behind those that the turn has in common with the one before it,
 * by the chat template and the tokenizer. The answers are those of {@link Lvlm.generate} with all messages;
 * only reducers inside the language model, which follow the first question, leave dropped what they dropped,
 * until an image comes and they decide anew. A turn that fails or is aborted is as if it had not been asked.
 */
export class Chat implements Disposable {
  readonly #model: ChatModel;
  /** Of every turn. */
  readonly #reduction: Pick<Required<ChatOptions>, 'reducers' | 'per'>;
  #images: readonly ImageInput[];
  #state: ChatState;
  #queue: Promise<unknown> = Promise.resolve();
  #disposed = false;

  /** Made by {@link Lvlm.chat}. */
  constructor(
    { images, messages, reducers, per }: Required<ChatOptions>,
    model: ChatModel,
    last: SharedTurn | null = null,
  ) {
    this.#model = model;
    this.#reduction = { reducers, per };
    this.#images = images;
    this.#state = { messages, last };
  }

  /** What was said so far, the answers included. */
  get messages(): readonly Message[] {
    return this.#state.messages;
  }

  /**
   * Asks the next question; questions wait for earlier ones.
   * @throws what {@link Lvlm.generate} throws; DisposedError
   */
  async ask(prompt: string, options: AskOptions = {}): Promise<GenerateResult> {
    const calledAt = now();
    const turn = this.#queue.then(() => this.#ask(prompt, options, calledAt));
    this.#queue = turn.catch(() => undefined);
    return options.abortSignal ? unlessAborted(turn, options.abortSignal) : turn;
  }

  /** As {@link ask}, each token as soon as there is one, see {@link Lvlm.stream}. */
  stream(
    prompt: string,
    options: Omit<AskOptions, 'onToken'> = {},
  ): AsyncGenerator<GeneratedToken, GenerateResult, undefined> {
    return answerStream(options.abortSignal, (ways) => this.ask(prompt, { ...options, ...ways }));
  }

  /**
   * A second conversation that goes on from here: what either is asked from now on the other does not know.
   * @throws DisposedError
   */
  fork(): Chat {
    if (this.#disposed) throw new DisposedError(GONE);
    const { messages, last } = this.#state;
    const options = { ...this.#reduction, images: this.#images, messages };
    return new Chat(options, this.#model, last?.share() ?? null);
  }

  /** Lets go of what the engine keeps of this chat. May be called again; the model stays. */
  dispose(): void {
    this.#disposed = true;
    this.#goOn({ ...this.#state, last: null });
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  async #ask(
    prompt: string,
    { images = [], ...options }: AskOptions,
    calledAt: number,
  ): Promise<GenerateResult> {
    if (this.#disposed) throw new DisposedError(GONE);
    options.abortSignal?.throwIfAborted();
    const { messages, last } = this.#state;
    const question: Message = { role: 'user', content: prompt, images: [...this.#images, ...images] };
    const asked = [...messages, question];
    const call = { ...options, ...this.#reduction, messages: asked };
    const { result, behind } = await this.#model.answer(call, calledAt, last?.behind ?? null);
    const next = behind && new SharedTurn(behind, this.#model.forget);
    this.#images = [];
    this.#goOn({ messages: [...asked, { role: 'assistant', content: result.text }], last: next });
    return result;
  }

  #goOn(state: ChatState): void {
    const { last } = this.#state;
    this.#state = state;
    last?.release();
    if (this.#disposed && state.last) this.dispose(); // meanwhile
  }
}
