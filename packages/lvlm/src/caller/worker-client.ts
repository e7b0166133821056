/** The worker thread as the caller's thread sees it: started, asked, ended, and never waited for once it is dead. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { receiveError } from '../engine/error-transfer.js';
import { DisposedError, WorkerError } from '../platform/errors.js';
import type {
  DecoderDimensions,
  FromWorker,
  GenerateRequest,
  KeysQuery,
  Outcome,
  ToWorker,
  WorkerInit,
} from '../engine/protocol.js';

/** What a call does with the worker's messages. */
export interface CallHandlers {
  encoded(message: Extract<FromWorker, { type: 'encoded' }>): void;
  prompted(message: Extract<FromWorker, { type: 'prompted' }>): void;
  token(token: number): void;
}

interface Settle<T> {
  resolve(value: T): void;
  reject(error: unknown): void;
}

/** Node runs no TypeScript in a worker: from source, the built file is used. */
function workerFile(): string {
  const file = fileURLToPath(
    new URL(import.meta.url.endsWith('.ts') ? '../../dist/worker.js' : './worker.js', import.meta.url),
  );
  if (existsSync(file)) return file;
  throw new WorkerError(
    `${file} is missing: build @foveate/lvlm (npm run build-worker), or install it again.`,
  );
}

/** One worker with one loaded model. */
export class WorkerClient {
  readonly #worker: Worker;
  #death: Error | null = null;
  #ending = false;
  #call: (Settle<Outcome | null> & { readonly handlers: CallHandlers; readonly stop: Int32Array }) | null =
    null;
  readonly #exited: Promise<void>;
  readonly #queries = new Map<number, Settle<Float32Array | Uint32Array>>();
  #nextQuery = 0;
  #loading: Settle<DecoderDimensions> | null = null;

  private constructor(init: WorkerInit) {
    this.#worker = new Worker(workerFile(), { workerData: init });
    this.#worker.on('message', (message: FromWorker) => {
      this.#receive(message);
    });
    this.#worker.on('error', (cause) => {
      this.#die(
        new WorkerError(`The worker thread died: ${cause.message}. Load the model again.`, { cause }),
      );
    });
    this.#exited = new Promise((resolve) => {
      this.#worker.on('exit', (code) => {
        this.#die(new WorkerError(`The worker thread ended with code ${code}. Load the model again.`));
        resolve();
      });
    });
  }

  /** @throws what went wrong in the worker while it opened the graphs */
  static async start(init: WorkerInit): Promise<{ client: WorkerClient; dimensions: DecoderDimensions }> {
    const client = new WorkerClient(init);
    try {
      const dimensions = await new Promise<DecoderDimensions>(
        (resolve, reject) => (client.#loading = { resolve, reject }),
      );
      client.#loading = null;
      client.#worker.unref(); // a model that nobody asks anything keeps no process alive
      return { client, dimensions };
    } catch (error) {
      await client.end();
      throw error;
    }
  }

  /** Runs a call; null where it was stopped. One at a time. */
  async call(request: GenerateRequest, handlers: CallHandlers): Promise<Outcome | null> {
    if (this.#death) throw this.#death;
    this.#worker.ref();
    try {
      return await new Promise((resolve, reject) => {
        this.#call = { resolve, reject, handlers, stop: request.stop };
        this.post(
          { type: 'generate', request },
          request.images.map(({ data }) => data.buffer),
        );
      });
    } finally {
      this.#call = null;
      if (!this.#ending) this.#worker.unref();
    }
  }

  /** Asks about the keys of the image whose plans the worker waits for. */
  query(query: KeysQuery): Promise<Float32Array | Uint32Array> {
    const id = this.#nextQuery++;
    return new Promise((resolve, reject) => {
      if (this.#death) {
        reject(this.#death);
        return;
      }
      this.#queries.set(id, { resolve, reject });
      this.post({ type: 'query', id, query });
    });
  }

  post(message: ToWorker, transfer: readonly ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  /**
   * Ends the worker. Whatever waits for it rejects with DisposedError at once; the worker ends by itself after the graph that it runs now, because
   * onnxruntime brings the process down when its thread is terminated inside a run.
   */
  async end(): Promise<void> {
    if (this.#call) Atomics.store(this.#call.stop, 0, 1);
    this.#die(new DisposedError());
    this.#ending = true;
    this.#worker.ref(); // the process must not end before what waits for the end goes on
    this.post({ type: 'dispose' });
    await this.#exited;
  }

  #receive(message: FromWorker): void {
    switch (message.type) {
      case 'loaded':
        this.#loading?.resolve(message.dimensions);
        break;
      case 'encoded':
        this.#call?.handlers.encoded(message);
        break;
      case 'prompted':
        this.#call?.handlers.prompted(message);
        break;
      case 'token':
        this.#call?.handlers.token(message.token);
        break;
      case 'answer':
        this.#takeQuery(message.id)?.resolve(message.values);
        break;
      case 'refused':
        this.#takeQuery(message.id)?.reject(receiveError(message.error));
        break;
      case 'done':
        this.#call?.resolve(message.outcome);
        break;
      case 'failed':
        if (message.error === null) this.#call?.resolve(null);
        else (this.#call ?? this.#loading)?.reject(receiveError(message.error));
        break;
    }
  }

  #takeQuery(id: number): Settle<Float32Array | Uint32Array> | undefined {
    const query = this.#queries.get(id);
    this.#queries.delete(id);
    return query;
  }

  #die(error: Error): void {
    this.#death ??= error;
    for (const waiting of [this.#loading, this.#call, ...this.#queries.values()])
      waiting?.reject(this.#death);
    this.#queries.clear();
  }
}
