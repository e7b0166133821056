import { AsyncLocalStorage } from 'node:async_hooks';
import {
  UnsupportedReducerError,
  type TensorBackend,
  type TokenReducer,
  type TowerLayers,
} from '@foveate/core';
import { readBundle, type Bundle } from '../bundle/bundle.js';
import type { Dtype } from '../bundle/dtypes.js';
import type { GenerateRequest, Outcome, PreparedImage } from '../engine/api.js';
import type { FamilySettings } from '../families/family.js';
import { familyOf } from '../families/index.js';
import { bundleFolder } from '../hub/bundle-folder.js';
import { defaultCacheDirectory } from '../platform/cache-directory.js';
import type { Device } from '../platform/devices.js';
import { DisposedError, PromptError } from '../platform/errors.js';
import { decodeImage, hashImage } from '../platform/image-files.js';
import { startEngineThread } from '../platform/node-thread.js';
import { measurePeakRss } from '../platform/peak-memory.js';
import { disableTelemetry } from '../platform/telemetry.js';
import { now } from '../platform/clock.js';
import { defaultThreads, resize } from '../platform/node.js';
import { onAbort, unlessAborted } from './abort.js';
import { answerStream } from './answer-stream.js';
import { Call, type FeaturePlans } from './call.js';
import { Chat, checkChatOptions, type AnsweredTurn, type ChatOptions, type TurnBehind } from './chat.js';
import { EngineClient } from './engine-client.js';
import { checkGenerateOptions, checkLoadOptions, checkReducers, type CheckedCall } from './options.js';
import { chainWarnings, formsRequest, reductionChain, type ReductionChain } from './reduction-chain.js';
import { equivalentTokens, imageReports } from './reports.js';
import { createTokenStream } from './token-stream.js';
import type {
  GeneratedToken,
  GenerateOptions,
  GenerateResult,
  ImageInput,
  LoadOptions,
  LvlmInfo,
} from './options-and-results.js';

/**
 * Texts with more for each token of the context are refused before the tokenizer works on them: tokens are
 * hardly ever so long.
 */
const MAX_CHARACTERS_PER_TOKEN = 64;

const NO_CACHE =
  'There is no home folder to remember verdicts of the identity check in, so each load makes the check again: set HOME or XDG_CACHE_HOME, or give a cacheDirectory.';

const EIGHT_BITS: readonly Dtype[] = ['q8', 'int8', 'uint8'];
const WEBGPU_IN_8_BITS =
  'Decoders of 8 bits are known to answer nonsense on WebGPU (transformers.js, issues 1286 and 1317): compare with the device cpu, or choose the dtype q4f16 or fp16.';

/** The model whose reducer is planning, in the code that runs for it. */
const planning = new AsyncLocalStorage<Lvlm>();

/**
 * A loaded model. Its engine runs in a thread of its own, one call at a time, so that the caller's event loop
 * stays free; reducers run in the caller's thread. Only their signals come out of the engine and only their
 * plans go in, unless a backend in the caller's thread does the heavy operations.
 */
export class Lvlm implements AsyncDisposable {
  /** What the bundle says of itself. */
  readonly info: LvlmInfo;
  readonly #bundle: Bundle;
  readonly #engine: EngineClient;
  readonly #maxImagePixels: number;
  readonly #backend: TensorBackend<unknown> | null;
  #queue: Promise<unknown> = Promise.resolve();
  /** Turns of chats so far. */
  #turns = 0;
  #disposed = false;

  private constructor(
    bundle: Bundle,
    engine: EngineClient,
    info: LvlmInfo,
    { maxImagePixels, backend }: ReturnType<typeof checkLoadOptions>,
  ) {
    this.#bundle = bundle;
    this.#engine = engine;
    this.info = info;
    this.#maxImagePixels = maxImagePixels;
    this.#backend = backend;
  }

  /**
   * Loads a bundle: a folder in the layout of transformers.js (config.json, tokenizer.json,
   * preprocessor_config.json, onnx/ ...).
   * @param model the folder; where there is none and it reads `owner/name`, a model of the hub, of which what
   * is missing is fetched first
   * @throws HubError; BundleError where the bundle is missing, damaged or of another kind; PlatformError without a
   * binary for this platform; InvalidArgumentError, UnsupportedReducerError
   */
  static async load(model: string, options: LoadOptions = {}): Promise<Lvlm> {
    const checked = checkLoadOptions(options);
    const { dtype, device, threads = defaultThreads(), reducers, backend, newlines } = checked;
    const directory = await bundleFolder(model, { ...options, dtype });
    const bundle = await readBundle(directory, dtype, { newlines });
    const { cacheDirectory = defaultCacheDirectory() } = checked;
    disableTelemetry();
    const { client, dimensions } = await EngineClient.start(startEngineThread({ cacheDirectory }), {
      graphs: bundle.graphs,
      threads,
      device,
      family: bundle.family,
      identityTolerance: identityTolerance(bundle, device),
      rotaryBase: bundle.rotaryBase,
      maxChatBytes: checked.maxChatBytes,
    });
    const { layers, kvHeads, headDim } = dimensions;
    const { visionLayers } = bundle.family;
    try {
      const chain = reductionChain(reducers, { vision: visionLayers, language: layers });
      await client.prepare(formsRequest(chain, handsOut(backend, bundle.family)));
    } catch (error) {
      await client.end();
      throw error;
    }
    const info = {
      ...{ directory: bundle.directory, graphs: bundle.graphs, dtypes: bundle.dtypes, device },
      modelType: bundle.family.modelType,
      imageToken: bundle.text.imageToken,
      visionLayers,
      layers,
      kvHeads,
      headDim,
      contextLength: bundle.contextLength,
    };
    const warnings = [
      ...bundle.warnings,
      ...(cacheDirectory === null ? [NO_CACHE] : []),
      ...(device === 'webgpu' && EIGHT_BITS.includes(bundle.dtypes.decoder_model_merged)
        ? [WEBGPU_IN_8_BITS]
        : []),
    ];
    return new Lvlm({ ...bundle, warnings }, client, info, checked);
  }

  /**
   * Answers one prompt about its images. Calls wait for earlier ones.
   * @throws InvalidArgumentError, ImageError, PromptError, UnsupportedReducerError; SignalUnavailableError
   * and BundleError where the model cannot give a signal; IdentityCheckError; what a reducer throws;
   * WorkerError where the engine died; DisposedError; the abort signal's reason
   */
  async generate(options: GenerateOptions): Promise<GenerateResult> {
    const { result } = await this.#turn(options, now(), null);
    return result;
  }

  /**
   * Looks whether the model's graphs allow a chain of reducers, without opening them: what {@link generate}
   * would throw of the signals and sites that this bundle does not have. Pictures may still be of a kind that
   * a method does not take.
   * @throws UnsupportedReducerError, SignalUnavailableError, BundleError, InvalidArgumentError
   */
  async check(reducers: readonly TokenReducer[]): Promise<void> {
    if (this.#disposed) throw new DisposedError();
    const chain = reductionChain(checkReducers(reducers), this.#layers);
    const forms = formsRequest(chain, handsOut(this.#backend, this.#bundle.family));
    const turn = this.#queue.then(() => this.#engine.check(forms));
    this.#queue = turn.catch(() => undefined);
    await turn;
  }

  /**
   * A conversation about images: they are encoded and reduced once, and each turn runs only what is new. Its
   * reducers are those of all turns.
   * @throws InvalidArgumentError
   * @example
   * const chat = model.chat({ images: ['photo.jpg'], reducers: [fopruRank()] });
   * await chat.ask('What is this?');
   * await chat.ask('And what is behind it?');
   */
  chat(options: ChatOptions = {}): Chat {
    return new Chat(checkChatOptions(options), {
      answer: (call, calledAt, behind) => this.#turn(call, calledAt, { behind }),
      forget: (turn) => {
        this.#engine.forget(turn);
      },
    });
  }

  async #turn(
    options: GenerateOptions,
    calledAt: number,
    chat: { readonly behind: TurnBehind | null } | null,
  ): Promise<AnsweredTurn> {
    const call = checkGenerateOptions(options);
    if (planning.getStore() === this) {
      throw new UnsupportedReducerError(
        'A reducer called generate() of the model that waits for its plan, which would never answer: load the model a second time for it.',
      );
    }
    const turn = this.#queue.then(() => this.#answer(call, calledAt, chat));
    this.#queue = turn.catch(() => undefined);
    return call.abortSignal ? unlessAborted(turn, call.abortSignal) : turn;
  }

  /**
   * As {@link generate}, each token as soon as there is one; the generator's return value is the result.
   * Whoever leaves the loop early ends the call.
   * @throws what {@link generate} throws, while the loop asks for the next token
   * @example
   * for await (const { text } of model.stream({ images: ['photo.jpg'], prompt: 'What is this?' })) process.stdout.write(text);
   */
  stream(
    options: Omit<GenerateOptions, 'onToken'>,
  ): AsyncGenerator<GeneratedToken, GenerateResult, undefined> {
    return answerStream(options.abortSignal, (ways) => this.generate({ ...options, ...ways }));
  }

  /**
   * Ends the engine and frees the model. Running, waiting and later calls reject with DisposedError. May be
   * called again.
   */
  async dispose(): Promise<void> {
    this.#disposed = true;
    await this.#engine.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  async #answer(
    options: CheckedCall,
    calledAt: number,
    chat: { readonly behind: TurnBehind | null } | null,
  ): Promise<AnsweredTurn> {
    if (this.#disposed) throw new DisposedError();
    options.abortSignal?.throwIfAborted();
    const startedAt = now();
    const peakRss = measurePeakRss();
    const chain = reductionChain(options.reducers, this.#layers);
    const promptIds = this.#promptIds(options);
    const promptMs = now() - startedAt;
    const behind = this.#usable(chat?.behind ?? null, options.images.length);
    const call = this.#call(options, chain, behind?.plans ?? []);
    const turn = chat && { behind: behind?.turn ?? null, keepAs: ++this.#turns };
    const request = this.#request(options, chain, promptIds, { stop: call.stop, chat: turn });
    const outcome = await this.#run(call, options, request);
    const result = {
      ...this.#answerOf(outcome),
      images: imageReports(chain, outcome, call.plans),
      equivalentTokens: equivalentTokens(chain, outcome),
      reusedTokens: outcome.reusedTokens,
      timings: {
        queueMs: startedAt - calledAt,
        preprocessMs: promptMs + call.imageMs,
        visionMs: outcome.visionMs,
        reduceMs: outcome.reduceMs,
        prefillMs: outcome.prefillMs,
        ttftMs: outcome.firstTokenAt - calledAt,
        tpotMs: outcome.steps > 0 ? (outcome.lastTokenAt - outcome.firstTokenAt) / outcome.steps : null,
        totalMs: now() - calledAt,
      },
      memory: {
        peakRssBytes: peakRss(),
        kvBytesPerLayer: outcome.kvBytesPerLayer,
        kvBytes: outcome.kvBytesPerLayer.reduce((sum, bytes) => sum + bytes, 0),
        cached: outcome.cached,
      },
      warnings: distinctWarnings([
        this.#bundle.warnings,
        ...outcome.crops.flat().flatMap(({ encoderPlans }) => encoderPlans.map(({ warnings }) => warnings)),
        ...call.plans.flat(2).map(({ warnings }) => warnings),
        chainWarnings(options.reducers, chain),
        ...outcome.languagePlans.map(({ warnings }) => warnings),
        outcome.warnings,
      ]),
    };
    return { result, behind: turn && { turn: turn.keepAs, plans: call.plans } };
  }

  /** The turn before, unless its image would be read in another way now. */
  #usable(behind: TurnBehind | null, images: number): TurnBehind | null {
    const wasAlone = behind?.plans.length === 1 && images > 1;
    return wasAlone && familyOf(this.#bundle.family).readsOneOtherwise ? null : behind;
  }

  get #layers(): TowerLayers {
    return { vision: this.info.visionLayers, language: this.info.layers };
  }

  #answerOf({ tokenIds, finishReason }: Outcome): Pick<GenerateResult, 'text' | 'tokenIds' | 'finishReason'> {
    return { text: this.#bundle.text.decode(tokenIds).trim(), tokenIds, finishReason };
  }

  #promptIds({ prompt, images }: CheckedCall): number[] {
    const { text: codec, contextLength } = this.#bundle;
    const limit = (contextLength ?? Infinity) * MAX_CHARACTERS_PER_TOKEN;
    const texts = typeof prompt === 'string' ? [prompt] : prompt.map(({ text }) => text);
    const characters = texts.reduce((sum, text) => sum + text.length, 0);
    if (characters > limit) {
      throw new PromptError(
        `The prompt has ${characters} characters, more than the model's context of ${contextLength} tokens can hold.`,
      );
    }
    return typeof prompt === 'string' ? codec.encode(prompt, images.length) : codec.encodeTurns(prompt);
  }

  #call({ images, onToken }: CheckedCall, chain: ReductionChain, plans: FeaturePlans): Call {
    const textOf = createTokenStream(this.#bundle.text);
    return new Call({
      chain,
      images: images.length,
      plans,
      backend: this.#backend,
      ask: this.#engine.ask,
      plan: (work) => planning.run(this, work),
      prepareImage: (index) => this.#prepareImage(images[index], `images[${index}]`, images.length),
      onToken: (tokenId) => onToken?.({ tokenId, text: textOf(tokenId) }),
    });
  }

  async #prepareImage(input: ImageInput, what: string, images: number): Promise<PreparedImage> {
    const { family, text } = this.#bundle;
    const decoded = await decodeImage(input, what, this.#maxImagePixels);
    const own = familyOf(family);
    const crops = await own.preprocess(decoded, family, resize, images);
    const size = { width: decoded.width, height: decoded.height };
    const inPrompt = own.written?.(size, text.imageToken, family) ?? '';
    return { imageHash: hashImage(decoded), size, crops, written: text.encodeImage(inPrompt, crops.length) };
  }

  #request(
    options: CheckedCall,
    chain: ReductionChain,
    promptIds: readonly number[],
    ways: Pick<GenerateRequest, 'stop' | 'chat'>,
  ): GenerateRequest {
    const { endTokenIds, contextLength, family, rules } = this.#bundle;
    const { images, reuseEncoding, maxNewTokens, temperature, seed, onToken } = options;
    // What was merged inside the encoder comes with signals, and not with maps.
    const isWhole = chain.merging.reducers.length === 0;
    const handOut = isWhole && options.per === 'crop' && handsOut(this.#backend, family);
    return {
      ...formsRequest(chain, handOut),
      ...{
        promptIds,
        endTokenIds,
        contextLength,
        reuseEncoding,
        maxNewTokens,
        temperature,
        seed,
      },
      ...ways,
      rules: { ...rules, ...options.rules },
      imageTokenId: family.imageTokenId,
      images: images.length,
      handOut,
      per: options.per,
      stream: onToken !== undefined,
    };
  }

  /**
   * Has the engine run a call, unless it ends before: by the abort signal, by what a reducer or `onToken`
   * throws, or because the model is disposed.
   */
  async #run(call: Call, { abortSignal }: CheckedCall, request: GenerateRequest): Promise<Outcome> {
    const stop =
      abortSignal &&
      onAbort(abortSignal, () => {
        call.end(abortSignal.reason);
      });
    try {
      const outcome = await this.#engine.generate(request, call, call.end);
      call.throwIfEnded();
      if (!outcome) throw new DisposedError(); // stopped, but not by this call
      return outcome;
    } catch (error) {
      if (request.chat) this.#engine.forget(request.chat.keepAs); // answered, but too late
      call.throwIfEnded(); // what ended the call, and not what became of that on the way through the engine
      throw error;
    } finally {
      stop?.();
    }
  }
}

/** Devices round otherwise than the processor, and encoders of few bits otherwise in each graph. */
function identityTolerance({ dtypes }: Bundle, device: Device): number {
  if (dtypes.vision_encoder !== 'fp32') return 2e-2;
  return device === 'cpu' ? 1e-4 : 1e-3;
}

/** Whether the backend reduces: maps and features of tokens that a connector folded do not fit together. */
function handsOut(backend: TensorBackend<unknown> | null, { patchesPerToken }: FamilySettings): boolean {
  return backend !== null && patchesPerToken === 1;
}

function distinctWarnings(lists: readonly (readonly string[])[]): string[] {
  return [...new Set(lists.flat())];
}
