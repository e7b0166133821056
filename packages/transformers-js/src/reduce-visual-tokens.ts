/** Puts reducers into a loaded model, and takes them out again. */
import { InvalidArgumentError, type ReductionPlan, type TokenReducer } from '@foveate/core';
import type { PreTrainedModel, Tensor } from '@huggingface/transformers';
import { behindCache, createCachedTokens, type CachedTokens } from './cached-tokens.js';
import { readChain, type Chain } from './chain.js';
import { openEncoder, type Encoder } from './encoder.js';
import { checkSameEncoder } from './identity-check.js';
import { readLlava, type Forward, type ForwardInputs, type ForwardOutputs, type Llava } from './llava.js';
import { hashPixels, readPicture, type ImageHash, type PictureReader } from './picture.js';
import { bringsPicture, findPicture, textRows, withRows } from './prompt.js';

/** Options of {@link reduceVisualTokens}. */
export interface ReduceOptions {
  /**
   * The file of the model's vision encoder, `onnx/vision_encoder.onnx` or that of another dtype, as a path
   * (weights stay in the file and beside it) or as bytes. A loaded model does not say where it lies.
   */
  readonly visionEncoder: string | Uint8Array;
  /**
   * Names a picture, from `pixel_values` [1, 3, height, width] float32: the seed of methods that draw.
   * Default: SHA-256 of size and pixels. To draw as `@foveate/lvlm` does, name the decoded picture, which
   * transformers.js does not keep.
   */
  readonly imageHash?: (pixelValues: Tensor) => string | Promise<string>;
  /**
   * Options of onnxruntime for the encoder with signals, e.g. `executionProviders`. Default: those of
   * onnxruntime, without its log.
   */
  readonly sessionOptions?: Readonly<Record<string, unknown>>;
}

/** What became of the picture of a prompt. */
export interface ReductionReport {
  /** Visual tokens that the encoder made. */
  readonly inputTokens: number;
  /** Visual tokens that the language model read. */
  readonly outputTokens: number;
  /** One a reducer, in their order: which tokens it kept, or merged with which weights. */
  readonly plans: readonly ReductionPlan[];
}

/** Reducers in a model. */
export interface VisualTokenReduction extends AsyncDisposable {
  /** Of the last prompt with a picture that the model read; null before the first. */
  readonly last: ReductionReport | null;
  /**
   * Makes the model what it was, once the calls that run have ended, and frees the encoder with signals. Do
   * it before `model.dispose()`, which does not know of that encoder. A second time does nothing.
   */
  restore(): Promise<void>;
}

/** Models with reducers in them. */
const reduced = new WeakSet<PreTrainedModel>();

/**
 * Has reducers choose the visual tokens that a loaded LLaVA reads: from now on `model.generate` and
 * `model.forward` read one picture a prompt as the plans leave it. Nothing else of the model changes, and
 * prompts without a picture are read as ever.
 *
 * @param model what `LlavaForConditionalGeneration.from_pretrained` or `AutoModelForImageTextToText` loaded
 * @param reducers one, or a chain in the order of the data; each acts on the encoder's features. None: all
 * tokens are kept
 * @throws InvalidArgumentError where `model` is no model or has reducers already, or another argument is none
 * of its kind; UnsupportedModelError where it is no LLaVA; UnsupportedReducerError where a reducer acts inside
 * the encoder or the language model, or reads signals of the latter; SignalUnavailableError where the encoder
 * cannot give a signal; VisionEncoderError where the file is not the model's encoder, or cannot be opened.
 * Calls of the model then throw UnsupportedCallError where they cannot be reduced, and what a reducer throws
 * @example
 * const reduction = await reduceVisualTokens(model, fopruRank({ keepRatio: 0.25 }), {
 *   visionEncoder: 'models/llava/onnx/vision_encoder.onnx',
 * });
 * await model.generate({ ...inputs, max_new_tokens: 32 });
 * console.log(reduction.last?.outputTokens);
 * await reduction.restore();
 */
export async function reduceVisualTokens(
  model: PreTrainedModel,
  reducers: TokenReducer | readonly TokenReducer[],
  options: ReduceOptions,
): Promise<VisualTokenReduction> {
  const llava = readLlava(model);
  const chain = readChain(reducers, llava.layers);
  const { imageHash, ...source } = checkOptions(options);
  if (reduced.has(model)) {
    throw new InvalidArgumentError('model', 'one with reducers', 'without reducers: call restore() first');
  }
  reduced.add(model);
  try {
    const encoder = await openCheckedEncoder(llava, chain, source);
    return new InstalledReducers({ llava, chain, encoder, imageHash });
  } catch (error) {
    reduced.delete(model);
    throw error;
  }
}

function checkOptions(options: ReduceOptions): Required<ReduceOptions> & { readonly imageHash: ImageHash } {
  const { visionEncoder, imageHash = hashPixels, sessionOptions = {} } = Object(options) as ReduceOptions;
  if (typeof imageHash !== 'function') throw new InvalidArgumentError('imageHash', imageHash, 'a function');
  return { visionEncoder, imageHash, sessionOptions };
}

async function openCheckedEncoder(
  llava: Llava,
  { requests }: Chain,
  source: Pick<Required<ReduceOptions>, 'visionEncoder' | 'sessionOptions'>,
): Promise<Encoder> {
  const ofEncoder = requests.filter(({ signal: { of } }) => of === 'vision-layer' || of === 'vision');
  const encoder = await openEncoder(llava, source, ofEncoder);
  try {
    await checkSameEncoder(llava, encoder);
    return encoder;
  } catch (error) {
    await encoder.release();
    throw error;
  }
}

/** Stands between the callers of a model and its `forward`, which it calls with shorter prompts. */
class InstalledReducers implements VisualTokenReduction {
  last: ReductionReport | null = null;
  readonly #reader: PictureReader;
  readonly #cached: CachedTokens = createCachedTokens();
  readonly #original: Forward;
  /** What was an own property of the model, if anything. */
  readonly #before: PropertyDescriptor | undefined;
  readonly #running = new Set<Promise<unknown>>();
  #isActive = true;

  constructor(reader: PictureReader) {
    const { model } = reader.llava;
    this.#reader = reader;
    this.#before = Object.getOwnPropertyDescriptor(model, 'forward');
    this.#original = model.forward.bind(model) as Forward;
    model.forward = this.#forward;
  }

  async restore(): Promise<void> {
    if (!this.#isActive) return;
    this.#isActive = false;
    const { encoder, llava } = this.#reader;
    const { model } = llava;
    if (model.forward === this.#forward) {
      if (this.#before) Object.defineProperty(model, 'forward', this.#before);
      else Reflect.deleteProperty(model, 'forward');
    }
    reduced.delete(model);
    await Promise.allSettled(this.#running);
    await encoder.release();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.restore();
  }

  /** Whoever put another `forward` before this one calls it behind `restore` too. */
  readonly #forward: Forward = async (inputs) => {
    if (!this.#isActive) return this.#original(inputs);
    const run = this.#run(inputs);
    this.#running.add(run);
    try {
      return await run;
    } finally {
      this.#running.delete(run);
    }
  };

  async #run(inputs: ForwardInputs): Promise<ForwardOutputs> {
    const missing = this.#cached.missingIn(inputs.past_key_values);
    const added = behindCache(inputs, missing);
    const { call, dropped } = bringsPicture(added) ? await this.#reduce(added) : { call: added, dropped: 0 };
    const outputs = await this.#original(call);
    this.#cached.note(outputs, missing + dropped);
    return outputs;
  }

  async #reduce(inputs: ForwardInputs): Promise<{ call: ForwardInputs; dropped: number }> {
    const { model, imageTokenId } = this.#reader.llava;
    const prompt = findPicture(inputs, imageTokenId);
    const { pixels, placeholders } = prompt;
    const text = textRows((await model.encode_text({ input_ids: prompt.ids })) as Tensor, prompt);
    const { rows, plans } = await readPicture(this.#reader, { pixels, text, placeholders });
    this.last = { inputTokens: placeholders, outputTokens: rows.length, plans };
    return { call: withRows(inputs, prompt, text, rows), dropped: placeholders - rows.length };
  }
}
