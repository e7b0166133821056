import type { Grid, TensorBackend } from '@foveate/core';
import { reduceOnBackend } from './backend-reduction.js';
import { readBundle, type Bundle } from '../bundle/bundle.js';
import { defaultCacheDirectory } from '../platform/cache-directory.js';
import { DisposedError, PromptError } from '../platform/errors.js';
import { decodeImage, imageKey } from '../platform/image-files.js';
import {
  addLanguageStage,
  equivalentTokens,
  languageRequest,
  languageWarnings,
  promptTokens,
} from './language-stage.js';
import { measurePeakRss } from '../platform/peak-memory.js';
import { checkGenerateOptions, checkLoadOptions, type CheckedCall } from './options.js';
import { inputRegion, preprocess, probeSize, type PixelValues } from '../bundle/preprocessing.js';
import { now, type FromWorker, type Outcome } from '../engine/protocol.js';
import { checkPlan, encoderRequest, imageTokens, planImage, visionReports } from './reduction.js';
import { defaultThreads } from '../engine/sessions.js';
import { createTokenStream } from './token-stream.js';
import type {
  GenerateOptions,
  GenerateResult,
  ImageInput,
  ImageReport,
  LoadOptions,
  LvlmInfo,
  Region,
  StageReport,
} from './types.js';
import { WorkerClient } from './worker-client.js';

/** Texts with more for each token of the context are refused before the tokenizer works on them: tokens are hardly ever so long. */
const MAX_CHARACTERS_PER_TOKEN = 64;

/** An image, decoded and preprocessed. */
interface ReadImage {
  readonly key: string;
  readonly pixels: PixelValues;
  /** What the pixels are of the upright image. */
  readonly region: Region;
}

/**
 * A loaded model. It runs in a worker thread, one call at a time, so that the caller's event loop stays free; reducers run in the caller's
 * thread. Only their signals come out of the worker and only their plans go in, unless a backend in the caller's thread does the heavy operations.
 */
export class Lvlm implements AsyncDisposable {
  /** What the bundle says of itself. */
  readonly info: LvlmInfo;
  readonly #bundle: Bundle;
  readonly #worker: WorkerClient;
  readonly #maxImagePixels: number;
  readonly #backend: TensorBackend<unknown> | null;
  #queue: Promise<unknown> = Promise.resolve();
  #disposed = false;

  private constructor(
    bundle: Bundle,
    worker: WorkerClient,
    info: LvlmInfo,
    { maxImagePixels, backend }: ReturnType<typeof checkLoadOptions>,
  ) {
    this.#bundle = bundle;
    this.#worker = worker;
    this.info = info;
    this.#maxImagePixels = maxImagePixels;
    this.#backend = backend;
  }

  /**
   * Loads a bundle: a folder in the layout of transformers.js (config.json, tokenizer.json, preprocessor_config.json, onnx/ ...).
   * @throws BundleError where the bundle is missing, damaged or of another kind; PlatformError without a binary for this platform;
   * InvalidArgumentError, UnsupportedReducerError
   */
  static async load(directory: string, options: LoadOptions = {}): Promise<Lvlm> {
    const checked = checkLoadOptions(options);
    const {
      dtype,
      threads = defaultThreads(),
      reducers,
      backend,
      cacheDirectory = defaultCacheDirectory(),
    } = checked;
    const bundle = await readBundle(directory, dtype);
    const { client, dimensions } = await WorkerClient.start({
      graphs: bundle.graphs,
      threads,
      patchSize: bundle.patchSize,
      visionLayers: bundle.visionLayers,
      identityCheck: {
        cacheDirectory,
        probe: probeSize(bundle.preprocessing),
        tolerance: dtype === 'fp32' ? 1e-4 : 2e-2,
      },
      encoder: encoderRequest(reducers.vision, backend !== null),
      language: reducers.language && languageRequest(reducers.language),
    });
    const { layers, kvHeads, headDim } = dimensions;
    const info = {
      directory: bundle.directory,
      modelType: bundle.modelType,
      imageToken: bundle.text.imageToken,
      layers,
      kvHeads,
      headDim,
      contextLength: bundle.contextLength,
    };
    return new Lvlm(bundle, client, info, checked);
  }

  /**
   * Answers one prompt about its images. Calls wait for earlier ones.
   * @throws InvalidArgumentError, ImageError, PromptError, UnsupportedReducerError; SignalUnavailableError and BundleError where the encoder
   * cannot give a signal; IdentityCheckError; what a reducer throws; WorkerError where the worker died; DisposedError; the abort signal's reason
   */
  async generate(options: GenerateOptions): Promise<GenerateResult> {
    const calledAt = now();
    const call = checkGenerateOptions(options);
    const turn = this.#queue.then(() => this.#answer(call, calledAt));
    this.#queue = turn.catch(() => undefined);
    return call.abortSignal ? unlessAborted(turn, call.abortSignal) : turn;
  }

  /** Ends the worker and frees the model. Running, waiting and later calls reject with DisposedError. May be called again. */
  async dispose(): Promise<void> {
    this.#disposed = true;
    await this.#worker.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  async #answer(call: CheckedCall, calledAt: number): Promise<GenerateResult> {
    if (this.#disposed) throw new DisposedError();
    call.abortSignal?.throwIfAborted();
    const startedAt = now();
    const peakRss = measurePeakRss();
    const ids = this.#promptIds(call);
    const images = await Promise.all(call.images.map((image, index) => this.#readImage(image, index)));
    const preparedAt = now();
    const { outcome, stages } = await this.#run(call, ids, images);
    const kvBytes = outcome.kvBytesPerLayer.reduce((sum, bytes) => sum + bytes, 0);
    const { language } = call.reducers;
    const { languagePlan: plan } = outcome;
    const entered = outcome.images.map((image, index): ImageReport => ({
      ...image,
      region: image.grid && this.#gridRegion(image.grid, images[index]),
      stages: stages[index] ?? [],
    }));
    return {
      text: this.#bundle.text.decode(outcome.tokens).trim(),
      tokens: outcome.tokens,
      finishReason: outcome.finishReason,
      images: language && plan ? addLanguageStage(entered, language.name, plan) : entered,
      equivalentTokens: equivalentTokens(
        this.info.layers,
        outcome.cached.visual,
        language && plan && { layer: language.layer, kept: plan.outputLength },
      ),
      timings: {
        queue: startedAt - calledAt,
        preprocess: preparedAt - startedAt,
        vision: outcome.vision,
        reduce: outcome.reduce,
        prefill: outcome.prefill,
        ttft: outcome.firstTokenAt - calledAt,
        tpot: outcome.steps > 0 ? (outcome.lastTokenAt - outcome.firstTokenAt) / outcome.steps : null,
        total: now() - calledAt,
      },
      memory: {
        peakRss: peakRss(),
        kvBytesPerLayer: outcome.kvBytesPerLayer,
        kvBytes,
        cached: outcome.cached,
      },
      warnings: [
        ...new Set([
          ...this.#bundle.warnings,
          ...stages.flat().flatMap(({ plan: { warnings } }) => warnings),
          ...(language ? languageWarnings(language, this.info.layers) : []),
          ...(plan?.warnings ?? []),
          ...outcome.warnings,
        ]),
      ],
    };
  }

  #promptIds({ text, template, images }: CheckedCall): number[] {
    const { text: codec, contextLength } = this.#bundle;
    const limit = (contextLength ?? Infinity) * MAX_CHARACTERS_PER_TOKEN;
    if (text.length > limit) {
      throw new PromptError(
        `The prompt has ${text.length} characters, more than the model's context of ${contextLength} tokens can hold.`,
      );
    }
    return codec.encode(template ? codec.render(text, images.length) : text, images.length);
  }

  async #readImage(image: ImageInput, index: number): Promise<ReadImage> {
    const { preprocessing } = this.#bundle;
    const decoded = await decodeImage(image, `images[${index}]`, this.#maxImagePixels);
    return {
      key: imageKey(decoded),
      pixels: await preprocess(decoded, preprocessing),
      region: inputRegion(decoded, preprocessing),
    };
  }

  /** What the grid's patches cover: the encoder's input, less what is no whole patch at its end. */
  #gridRegion({ rows, columns }: Grid, { region, pixels }: ReadImage): Region {
    const { patchSize } = this.#bundle;
    return {
      ...region,
      width: (region.width * columns * patchSize) / pixels.width,
      height: (region.height * rows * patchSize) / pixels.height,
    };
  }

  /** Has the worker run the call, and reduces its images on the way. */
  async #run(
    call: CheckedCall,
    ids: readonly number[],
    images: readonly ReadImage[],
  ): Promise<{ outcome: Outcome; stages: StageReport[][] }> {
    const worker = this.#worker;
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const stages: StageReport[][] = [];
    let failure: { readonly cause: unknown } | undefined;
    const end = (cause: unknown): void => {
      failure ??= { cause };
      Atomics.store(stop, 0, 1);
      worker.post({ type: 'plans', plans: null }); // in case it waits for plans
    };
    const backend = this.#backend;
    const reduce = async (message: Extract<FromWorker, { type: 'encoded' }>): Promise<void> => {
      const { vision } = call.reducers;
      if (backend) {
        const reduced = await reduceOnBackend(backend, vision, message, images[message.image].key);
        stages[message.image] = reduced.stages;
        if (!failure) worker.post({ type: 'reduced', features: reduced.features });
        return;
      }
      const tokens = imageTokens(message, images[message.image].key, (query) =>
        failure ? Promise.reject(new DisposedError()) : worker.query(query),
      );
      const plans = await planImage(vision, tokens);
      if (!failure) worker.post({ type: 'plans', plans });
      stages[message.image] = visionReports(vision, plans); // while the worker goes on
    };
    const reducePrompt = async (message: Extract<FromWorker, { type: 'prompted' }>): Promise<void> => {
      const { language } = call.reducers;
      if (!language) return; // nobody else is asked
      const tokens = promptTokens(
        message,
        images.map(({ key }) => key),
      );
      const plan = checkPlan(await language.plan(tokens), language, tokens);
      if (!failure) worker.post({ type: 'plans', plans: [plan] });
    };
    const textOf = call.onToken && createTokenStream(this.#bundle.text);
    const abort = (): void => {
      end(call.abortSignal?.reason);
    };
    call.abortSignal?.addEventListener('abort', abort);
    try {
      const outcome = await worker.call(
        {
          ids,
          imageTokenId: this.#bundle.imageTokenId,
          endTokenIds: this.#bundle.endTokenIds,
          contextLength: this.#bundle.contextLength,
          images: images.map(({ pixels }) => pixels),
          reuse: call.reuseEncoding ? images.map(({ key }) => key) : null,
          encoder: encoderRequest(call.reducers.vision, backend !== null),
          handOut: backend !== null,
          language: call.reducers.language && languageRequest(call.reducers.language),
          maxNewTokens: call.maxNewTokens,
          temperature: call.temperature,
          seed: call.seed,
          stream: call.onToken !== undefined,
          stop,
        },
        {
          encoded: (message) => {
            reduce(message).catch(end);
          },
          prompted: (message) => {
            reducePrompt(message).catch(end);
          },
          token: (id) => {
            if (failure) return;
            try {
              call.onToken?.({ id, text: textOf?.(id) ?? '' });
            } catch (cause) {
              end(cause);
            }
          },
        },
      );
      if (failure) throw failure.cause;
      if (!outcome) throw new DisposedError(); // stopped, but not by this call
      return { outcome, stages };
    } finally {
      call.abortSignal?.removeEventListener('abort', abort);
    }
  }
}

/** The promise, or the signal's reason as soon as it is aborted; the worker's turn ends behind it. */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      reject(signal.reason as Error);
    };
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => {
      signal.removeEventListener('abort', abort);
    });
  });
}
