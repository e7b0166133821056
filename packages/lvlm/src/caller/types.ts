import type { ReductionPlan, TensorBackend, TokenReducer } from '@foveate/core';

/** Decoded pixels: `height` rows of `width` pixels of `channels` bytes (1 grey, 3 RGB, 4 RGBA), row-major, no padding. */
export interface RawImage {
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3 | 4;
}

/** A path of an image file, the bytes of one (PNG, JPEG, WebP, GIF, AVIF, TIFF), or decoded pixels. Never a URL. */
export type ImageInput = string | Uint8Array | RawImage;

/** Which variant of the bundle's ONNX files to read, by the file name's suffix: `fp32` has none, the others `_fp16`, `_q4` ... */
export type Dtype = 'fp32' | 'fp16' | 'int8' | 'uint8' | 'quantized' | 'q4' | 'q4f16' | 'bnb4';

/** Options of {@link Lvlm.load}. */
export interface LoadOptions {
  /** Variant of the ONNX files. Default `'fp32'`. */
  readonly dtype?: Dtype;
  /** Threads of one onnxruntime session. Default: the physical cores this process may use. */
  readonly threads?: number;
  /**
   * Reducers that the first call will use: the encoder and the decoder that they need are built now instead of during that call.
   * Default `[]`, both as the bundle has them. Other reducers can always be used; their graphs are built when they first are.
   */
  readonly reducers?: readonly TokenReducer[];
  /**
   * Where the reducers of the vision stage work: the attention maps, keys and features of an image are handed to this backend in the caller's thread, which makes
   * the marginals, finds nearest keys and applies the plans. It must work as long as the model is used. Default: none. Without one the
   * encoder's graph makes the signals, and the worker applies the plans.
   */
  readonly backend?: TensorBackend<unknown>;
  /** Folder in which the verdicts of the identity check are remembered. Default: `foveate` in the user's cache folder. */
  readonly cacheDirectory?: string;
  /** Most pixels a decoded image may have. Default 64 Mi (67,108,864). */
  readonly maxImagePixels?: number;
}

/** Options of {@link Lvlm.generate}. Exactly one of `prompt` and `rawPrompt` is given. */
export interface GenerateOptions {
  /** In the order of their places in the prompt: paths, bytes of image files, or `{ data, width, height, channels }`; never URLs. Default `[]`. */
  readonly images?: readonly ImageInput[];
  /** The user's turn, put into the bundle's chat template with the images before it; it must not contain the image token. */
  readonly prompt?: string;
  /** The prompt word for word, with the bundle's image token (`<image>`) once for each image. */
  readonly rawPrompt?: string;
  /** What reduces the visual tokens, one after the other; one of the language stage at most, and last. Default `[]`. */
  readonly reducers?: readonly TokenReducer[];
  /** Most tokens to generate, at least 1. Default 64. */
  readonly maxNewTokens?: number;
  /** 0 takes the likeliest token (ties: the lowest id); above 0 samples from softmax(logits / temperature). Default 0. */
  readonly temperature?: number;
  /** Seed of the sampling, an integer in [0, 2^32). Default 0, so that a call can be repeated. No effect at temperature 0. */
  readonly seed?: number;
  /**
   * Whether an image that the last call with the same signals ended with need not be encoded again. The answer is the same, `timings.vision` is not: for
   * runs that put one image to many reducers and measure no time. Default false.
   */
  readonly reuseEncoding?: boolean;
  /** Ends the call between two runs of the model; the call rejects with the signal's reason. */
  readonly abortSignal?: AbortSignal;
  /** Called in the caller's thread for each generated token (the end token excluded), in order, before the call resolves. */
  readonly onToken?: (token: GeneratedToken) => void;
}

/** One token as it is generated. */
export interface GeneratedToken {
  readonly id: number;
  /** The text that this token adds; empty while a character is still incomplete. */
  readonly text: string;
}

/** What {@link Lvlm.generate} resolves to. */
export interface GenerateResult {
  /** The answer, without special tokens. */
  readonly text: string;
  /** Ids of the generated tokens, the end token excluded. */
  readonly tokens: readonly number[];
  /** `'end'`: the model ended its answer. `'length'`: maxNewTokens, or the model's context, was reached. */
  readonly finishReason: 'end' | 'length';
  /** What became of each image's tokens, in the order of the images. */
  readonly images: readonly ImageReport[];
  /**
   * The visual tokens that a layer of the language model sees on average, which is what the reduction costs: T = (N * K + kept * (L - K)) / L. N is the visual
   * tokens of all images that enter the first of L layers, behind the projector and every reducer of the vision stage; `kept` those that are left from layer K on,
   * where a reducer of the language stage works. Without one, T = N. Text is not counted.
   */
  readonly equivalentTokens: number;
  readonly timings: Timings;
  readonly memory: Memory;
  /** Everything worth telling that is no error, those of the plans included. */
  readonly warnings: readonly string[];
}

/** The visual tokens of one image on their way into the language model. */
export interface ImageReport {
  /** The encoder's grid of visual tokens, row-major; null where they do not fill one. */
  readonly grid: { readonly rows: number; readonly columns: number } | null;
  /** What the grid covers of the upright image: preprocessing may crop it, or pad it. Null where there is no grid. */
  readonly region: Region | null;
  /** Visual tokens out of the encoder. */
  readonly inputTokens: number;
  /** Visual tokens left after all stages; with one of the language stage, the layers before its own read those that were left before it. */
  readonly outputTokens: number;
  /** One entry a reducer, in their order; empty without reducers. */
  readonly stages: readonly StageReport[];
}

/** A rectangle in an image: shares of its width and height, from its upper left corner. */
export interface Region {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** What one reducer did to one image. */
export interface StageReport {
  /** Before the projector, or inside the language model. */
  readonly stage: 'vision' | 'language';
  /** The reducer's name. */
  readonly reducer: string;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** The encoder's visual tokens left after this stage, ascending; null once a stage merged tokens. */
  readonly kept: readonly number[] | null;
  /**
   * The plan itself, from this stage's input tokens to its output tokens. Of the language stage, which reduces all images together, the part about this
   * image: with no outputs at all where it kept none of the image's tokens.
   */
  readonly plan: ReductionPlan;
}

/** Milliseconds of one call. */
export interface Timings {
  /** Waiting for earlier calls. */
  readonly queue: number;
  /** Decoding, hashing and preprocessing the images, rendering and tokenising the prompt. */
  readonly preprocess: number;
  /** The vision encoder with its projector, all images. */
  readonly vision: number;
  /** Signals to the reducers, their plans back, and applying them, all images. */
  readonly reduce: number;
  /** Embedding, scattering the visual tokens, first run of the decoder. */
  readonly prefill: number;
  /** From the call to the first token: all of the above. */
  readonly ttft: number;
  /** Mean time of the later tokens; null where there was no decoder run after the first. */
  readonly tpot: number | null;
  /** From the call to the last token. */
  readonly total: number;
}

/** Bytes of one call. */
export interface Memory {
  /** Highest resident set of the whole process during this call; null where the system cannot tell. */
  readonly peakRss: number | null;
  /**
   * Keys and values that the decoder held at the end, a number a layer: `2 * kvHeads * headDim * bytes per number * tokens`, where tokens is
   * `cached.text + cached.visual + cached.generated`; from the layer of a reducer of the language stage on, what it kept in place of `cached.visual`.
   */
  readonly kvBytesPerLayer: readonly number[];
  /** The sum of `kvBytesPerLayer`. */
  readonly kvBytes: number;
  /**
   * The tokens whose keys and values those are. `generated` counts the generated tokens that went through the decoder: all of `tokens` when the
   * model ended its answer itself, all but the last one when the call stopped at its length, because that one was never run.
   */
  readonly cached: { readonly text: number; readonly visual: number; readonly generated: number };
}

/** What a bundle says of itself. */
export interface LvlmInfo {
  /** The bundle's folder, absolute. */
  readonly directory: string;
  /** `model_type` of config.json. */
  readonly modelType: string;
  /** Text of the token that stands for an image in a prompt. */
  readonly imageToken: string;
  /** Layers of the language model. */
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Most tokens the language model reads and writes in one call; null where the bundle does not say. */
  readonly contextLength: number | null;
}
