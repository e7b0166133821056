/** What a caller says to a model, and what it gets back. */
import type { EveryLayerSite, Grid, ReductionPlan, Site, TensorBackend, TokenReducer } from '@foveate/core';
import type { DtypeChoice, GraphDtypes, GraphName } from '../bundle/dtypes.js';
import type { Region } from '../bundle/preprocessing.js';
import type { Newlines } from '../families/family.js';
import type { HubOptions } from '../hub/bundle-folder.js';
import type { Device } from '../platform/devices.js';

/**
 * Decoded pixels: `height` rows of `width` pixels of `channels` bytes (1 grey, 3 RGB, 4 RGBA), row-major, no
 * padding.
 */
export interface RawImage {
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
  readonly channels: 1 | 3 | 4;
}

/**
 * A path of an image file, the bytes of one (PNG, JPEG, WebP, GIF, AVIF, TIFF), or decoded pixels. Never a
 * URL.
 */
export type ImageInput = string | Uint8Array | RawImage;

/** Options of {@link Lvlm.load}. */
export interface LoadOptions extends HubOptions {
  /**
   * Variant of the ONNX files, by the names that transformers.js has for them: one for all, or one a graph:
   * `{ vision_encoder: 'q8', decoder_model_merged: 'q4' }`. Default `'auto'`: what `transformers.js_config` of
   * config.json says, else fp32; likewise for graphs that are not named.
   */
  readonly dtype?: DtypeChoice;
  /**
   * Where onnxruntime runs all graphs, signals and reductions in them included. Answers are the processor's up
   * to rounding, which may decide between two tokens that are almost as likely. Default `'cpu'`.
   */
  readonly device?: Device;
  /** Threads of one onnxruntime session. Default: the physical cores this process may use. */
  readonly threads?: number;
  /**
   * Reducers that the first call will use: the encoder and the decoder that they need are built now instead
   * of during that call. Default `[]`, both as the bundle has them. Other reducers can always be used; their
   * graphs are built when they first are.
   */
  readonly reducers?: readonly TokenReducer[];
  /**
   * Where reducers that act on the features work: the attention maps, keys and features of an image are
   * handed to this backend in the caller's thread, which makes the marginals, finds nearest keys and applies
   * the plans. It must work as long as the model is used. Default: none. Without one the encoder's graph
   * makes the signals, and the worker applies the plans.
   */
  readonly backend?: TensorBackend<unknown>;
  /**
   * Which of the newlines that LLaVA-NeXT and LLaVA-OneVision put behind the rows of a picture the language
   * model reads once visual tokens were left out or merged on the encoder's features: none, all, or those of
   * rows that have a token left. Default `'drop'`. Of a picture with nothing reduced there it reads them all.
   * Other models have none.
   */
  readonly newlines?: Newlines;
  /**
   * Folder in which the verdicts of the identity check are remembered. Default: `foveate` in the user's cache
   * folder.
   */
  readonly cacheDirectory?: string;
  /** Most pixels a decoded image may have. Default 64 Mi (67,108,864). */
  readonly maxImagePixels?: number;
  /**
   * Most bytes of keys and values that are kept between the turns of all chats. Beyond it those of the chat
   * used longest ago are forgotten: its next turn gives the same answer, and takes as long as a first one.
   * Default 1 Gi (1,073,741,824).
   */
  readonly maxChatBytes?: number;
}

/** One turn of a conversation. */
export interface Message {
  readonly role: 'system' | 'user' | 'assistant';
  /** Special tokens in it are text; it must not contain the image token. */
  readonly content: string;
  /** Images before the text. Default `[]`. */
  readonly images?: readonly ImageInput[];
}

/** Options of {@link Lvlm.generate}. Exactly one of `prompt`, `rawPrompt` and `messages` is given. */
export interface GenerateOptions {
  /**
   * In the order of their places in the prompt: paths, bytes of image files, or `{ data, width, height,
   * channels }`; never URLs. Default `[]`.
   */
  readonly images?: readonly ImageInput[];
  /**
   * The user's turn, put into the bundle's chat template with the images before it. Special tokens in it are
   * text; it must not contain the image token.
   */
  readonly prompt?: string;
  /**
   * The prompt word for word, with the bundle's image token (`<image>`) once for each image and special
   * tokens that mean what they say.
   */
  readonly rawPrompt?: string;
  /**
   * A whole conversation with the user's turn at its end, put into the bundle's chat template; in place of
   * `images` its messages have theirs.
   */
  readonly messages?: readonly Message[];
  /**
   * What reduces the visual tokens, in the order of the data: inside the encoder, on its features, inside the
   * language model. Default `[]`.
   */
  readonly reducers?: readonly TokenReducer[];
  /**
   * What has a budget of its own on the encoder's features: each crop of an image, or the image, whose crops
   * are then ranked together (a crop may keep none): 'keep 640 of 2,880'. Default `'crop'`.
   */
  readonly per?: 'crop' | 'image';
  /** Most tokens to generate, at least 1. Default 64. */
  readonly maxNewTokens?: number;
  /**
   * 0 takes the likeliest token (ties: the lowest id); above 0 samples from softmax(logits / temperature).
   * Default 0.
   */
  readonly temperature?: number;
  /**
   * Above 1 makes tokens less likely that came before, in the prompt (image tokens included) or in the
   * answer; at any temperature. Default: the bundle's (generation_config.json), else 1, which does nothing.
   */
  readonly repetitionPenalty?: number;
  /** Sample among that many of the likeliest tokens. Default: the bundle's, else 0, which means all. */
  readonly topK?: number;
  /**
   * Sample among the likeliest tokens whose probabilities sum to this. Default: the bundle's, else 1, which
   * means all.
   */
  readonly topP?: number;
  /**
   * Sample among tokens at least this many times as likely as the likeliest. Default: the bundle's, else 0,
   * which means all.
   */
  readonly minP?: number;
  /**
   * Seed of the sampling, an integer in [0, 2^32). Default 0, so that a call can be repeated. No effect at
   * temperature 0.
   */
  readonly seed?: number;
  /**
   * Reuse the previous call's encoding of an image when image and signals are the same. The answer is the
   * same, `timings.visionMs` is not: for runs that put one image to many reducers and measure no time. What a
   * reducer reads of the prompt is never reused. Default false.
   */
  readonly reuseEncoding?: boolean;
  /** Ends the call between two runs of the model; the call rejects with the signal's reason. */
  readonly abortSignal?: AbortSignal;
  /**
   * Called in the caller's thread for each generated token (the end token excluded), in order, before the
   * call resolves.
   */
  readonly onToken?: (token: GeneratedToken) => void;
}

/** One token as it is generated. */
export interface GeneratedToken {
  /** Of the vocabulary. */
  readonly tokenId: number;
  /** The text that this token adds; empty while a character is still incomplete. */
  readonly text: string;
}

/** What {@link Lvlm.generate} resolves to. */
export interface GenerateResult {
  /** The answer, without special tokens. */
  readonly text: string;
  /** Ids of the generated tokens, the end token excluded. */
  readonly tokenIds: readonly number[];
  /** `'end'`: the model ended its answer. `'length'`: maxNewTokens, or the model's context, was reached. */
  readonly finishReason: 'end' | 'length';
  /** What became of each image's tokens, in the order of the images. */
  readonly images: readonly ImageReport[];
  /**
   * The visual tokens that a layer of the language model sees on average, which is what the reduction costs.
   * With N tokens that enter the first of L layers, and `kept` that are left from layer K on, T = (N * K +
   * kept * (L - K)) / L; with more sites accordingly, without one T = N. Text is not counted.
   */
  readonly equivalentTokens: number;
  /** Tokens of the prompt, visual ones included, that an earlier turn of the chat had run; else 0. */
  readonly reusedTokens: number;
  readonly timings: Timings;
  readonly memory: Memory;
  /** Everything worth telling that is no error, those of the plans included. */
  readonly warnings: readonly string[];
}

/** The visual tokens of one image on their way into the language model. */
export interface ImageReport {
  /** Visual tokens out of the encoder, of all crops. */
  readonly inputTokens: number;
  /** Visual tokens left after all steps, of all crops. */
  readonly outputTokens: number;
  /**
   * What the encoder read of the image, in its order: one crop, or several where the model cuts large
   * pictures.
   */
  readonly crops: readonly CropReport[];
}

/** The visual tokens of one crop. */
export interface CropReport {
  /**
   * The grid of the crop's visual tokens, those left out that stand for padding, row-major; null where they
   * do not fill one.
   */
  readonly grid: Grid | null;
  /**
   * What the grid covers of the upright image: preprocessing may crop it, or pad it. Null where there is no
   * grid.
   */
  readonly region: Region | null;
  /** Visual tokens out of the encoder, those left out that stand for padding. */
  readonly inputTokens: number;
  /** Visual tokens left after all steps. */
  readonly outputTokens: number;
  /**
   * One entry for each reducer at each of its sites, in the order of the data; empty without reducers, and on
   * the features of a crop without tokens.
   */
  readonly steps: readonly StepReport[];
}

/** What one reducer did to one crop at one site. */
export interface StepReport {
  /** With its layer counted from the start. */
  readonly site: Site | EveryLayerSite;
  /** The reducer's name. */
  readonly reducer: string;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** The crop's `inputTokens` that are left after this step, ascending; null once a step merged tokens. */
  readonly kept: readonly number[] | null;
  /**
   * The plan itself, from this step's input tokens to its output tokens. Inside the language model, where all
   * images are reduced together, the part about this crop: with no outputs at all where it kept none of the
   * crop's tokens.
   */
  readonly plan: ReductionPlan;
}

/** Milliseconds of one call. */
export interface Timings {
  /** Waiting for earlier calls. */
  readonly queueMs: number;
  /** Decoding, hashing and preprocessing the images, rendering and tokenising the prompt. */
  readonly preprocessMs: number;
  /** The vision encoder with its projector, all images. */
  readonly visionMs: number;
  /** Signals to the reducers, their plans back, and applying them, all images. */
  readonly reduceMs: number;
  /** Embedding, scattering the visual tokens, first run of the decoder. */
  readonly prefillMs: number;
  /** From the call to the first token: all of the above. */
  readonly ttftMs: number;
  /** Mean time of the later tokens; null where there was no decoder run after the first. */
  readonly tpotMs: number | null;
  /** From the call to the last token. */
  readonly totalMs: number;
}

/** Bytes of one call. */
export interface Memory {
  /** Highest resident set of the whole process during this call; null where the system cannot tell. */
  readonly peakRssBytes: number | null;
  /**
   * Keys and values that the decoder held at the end, a number a layer: `2 * kvHeads * headDim * bytes per
   * number * tokens`, where tokens is `cached.text + cached.visual + cached.generated`; from the layer of a
   * reducer inside the language model on, what it kept in place of `cached.visual`. 0 of a layer without keys
   * and values, as hybrid models have them; the fixed sizes of what these keep are not counted.
   */
  readonly kvBytesPerLayer: readonly number[];
  /** The sum of `kvBytesPerLayer`. */
  readonly kvBytes: number;
  /**
   * The tokens whose keys and values those are. `generated` counts the generated tokens that went through the
   * decoder: all of `tokens` when the model ended its answer itself, all but the last one when the call
   * stopped at its length, because that one was never run. Newlines of pictures are text.
   */
  readonly cached: { readonly text: number; readonly visual: number; readonly generated: number };
}

/** What a bundle says of itself. */
export interface LvlmInfo {
  /** The bundle's folder, absolute. */
  readonly directory: string;
  /** Paths of the graphs. */
  readonly graphs: Readonly<Record<GraphName, string>>;
  /** The variant of each graph. */
  readonly dtypes: GraphDtypes;
  /** Where they run. */
  readonly device: Device;
  /** `model_type` of config.json. */
  readonly modelType: string;
  /** Text of the token that stands for an image in a prompt. */
  readonly imageToken: string;
  /** Layers of the vision encoder, as it was trained. */
  readonly visionLayers: number;
  /** Layers of the language model. */
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Most tokens the language model reads and writes in one call; null where the bundle does not say. */
  readonly contextLength: number | null;
}
