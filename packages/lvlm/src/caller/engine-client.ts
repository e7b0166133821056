/**
 * The engine's thread as the caller's thread sees it: started, called, ended, and never waited for once it is
 * dead.
 */
import { connect, type Remote } from '../engine/channel.js';
import type {
  CallerApi,
  EngineApi,
  EngineSettings,
  FormsRequest,
  GenerateRequest,
  ModelDimensions,
  Outcome,
} from '../engine/api.js';
import { DisposedError, WorkerError } from '../platform/errors.js';
import type { EngineThread } from '../platform/platform.js';
import type { AskableEngine } from './crop-tokens.js';

/** One engine with one loaded model. */
export class EngineClient {
  readonly #thread: EngineThread;
  readonly #engine: Remote<EngineApi, CallerApi>;
  #death: Error | null = null;
  #call: {
    readonly caller: CallerApi;
    readonly stop: Int32Array;
    readonly end: (reason: unknown) => void;
  } | null = null;

  private constructor(thread: EngineThread) {
    this.#thread = thread;
    const current = (): CallerApi => {
      if (this.#call) return this.#call.caller;
      throw new DisposedError(); // a call that ended meanwhile
    };
    this.#engine = connect<EngineApi, CallerApi>(thread.port, {
      image: (index) => current().image(index),
      planCrops: (crops) => current().planCrops(crops),
      reduceCrop: (tokens, features) => current().reduceCrop(tokens, features),
      planPrompt: (tokens) => current().planPrompt(tokens),
      token: (tokenId) => this.#call?.caller.token(tokenId),
    });
    thread.ended.then(
      (code) => {
        this.#die(new WorkerError(`The worker thread ended with code ${code}. Load the model again.`));
      },
      (cause: unknown) => {
        this.#die(
          new WorkerError(`The worker thread died: ${(cause as Error).message}. Load the model again.`, {
            cause,
          }),
        );
      },
    );
  }

  /**
   * Starts an engine and has it open a bundle.
   * @throws what went wrong while it opened the graphs
   */
  static async start(
    thread: EngineThread,
    settings: EngineSettings,
  ): Promise<{ client: EngineClient; dimensions: ModelDimensions }> {
    const client = new EngineClient(thread);
    try {
      return { client, dimensions: await client.#engine.open(settings) };
    } catch (error) {
      await client.end();
      throw error;
    }
  }

  /** See {@link EngineApi.prepare}. Afterwards a model that nobody asks anything keeps no process alive. */
  async prepare(forms: FormsRequest): Promise<void> {
    try {
      await this.#engine.prepare(forms);
    } catch (error) {
      await this.end();
      throw error;
    }
    this.#thread.keepAlive(false);
  }

  /**
   * Runs a call; null where it was stopped. One at a time.
   * @param end told when the call ends before its time
   */
  async generate(
    request: GenerateRequest,
    caller: CallerApi,
    end: (reason: unknown) => void,
  ): Promise<Outcome | null> {
    if (this.#death) throw this.#death;
    this.#call = { caller, stop: request.stop, end };
    try {
      return await this.#awake(() => this.#engine.generate(request));
    } finally {
      this.#call = null;
    }
  }

  /** Keeps the process alive while the engine works. */
  async #awake<T>(work: () => Promise<T>): Promise<T> {
    this.#thread.keepAlive(true);
    try {
      return await work();
    } finally {
      if (!this.#dead) this.#thread.keepAlive(false); // what ends the engine waits for it
    }
  }

  /** See {@link EngineApi.check}. Between calls. */
  async check(forms: FormsRequest): Promise<void> {
    if (this.#death) throw this.#death;
    await this.#awake(() => this.#engine.check(forms));
  }

  /** See {@link EngineApi.forget}. */
  forget(turn: number): void {
    if (!this.#death) void this.#engine.forget(turn).catch(() => undefined); // a dead engine keeps nothing
  }

  /** Asks about the crop or prompt whose plans the engine waits for. */
  get ask(): AskableEngine {
    return this.#engine;
  }

  /**
   * Ends the engine. Whatever waits for it rejects with DisposedError at once; the thread ends by itself
   * after the graph that it runs now, because onnxruntime brings the process down when its thread is
   * terminated inside a run.
   */
  async end(): Promise<void> {
    this.#call?.end(new DisposedError());
    void this.#engine.dispose().catch(() => undefined); // it may be dead already
    this.#die(new DisposedError());
    this.#thread.keepAlive(true); // the process must not end before what waits for the end goes on
    await this.#thread.ended.catch(() => undefined);
  }

  get #dead(): boolean {
    return this.#death !== null;
  }

  #die(error: Error): void {
    this.#death ??= error;
    void this.#engine.$rejectPendingCalls(({ reject }) => {
      reject(this.#death);
    });
  }
}
