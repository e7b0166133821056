/**
 * What the caller's thread and the engine's say to each other: two interfaces, and the plain data that their
 * functions take. One call runs at a time. The KV cache never crosses; features and attention maps do only
 * where the caller's thread reduces them on a backend of its own.
 */
import type {
  Budget,
  Calibration,
  ComparedRows,
  EncoderPlace,
  Grid,
  MergeAmount,
  ReductionPlan,
  RowProducts,
  SignalRequest,
  SimilarityMeasure,
  Span,
  VisionSite,
} from '@foveate/core';
import type { GraphName } from '../bundle/dtypes.js';
import type { GenerationRules } from '../bundle/generation-rules.js';
import type { FamilySettings } from '../families/family.js';
import type { PixelValues, Region, Size } from '../bundle/preprocessing.js';
import type { Device } from '../platform/devices.js';

/** The engine, as the caller's thread sees it. */
export interface EngineApi {
  /**
   * Opens a bundle's embeddings and reads what its graphs say. Once, before anything else.
   * @throws BundleError, PlatformError
   */
  open(settings: EngineSettings): Promise<ModelDimensions>;
  /**
   * Opens the forms of the graphs that a call of this kind will need.
   * @throws BundleError, PlatformError, IdentityCheckError, UnsupportedReducerError, SignalUnavailableError
   */
  prepare(forms: FormsRequest): Promise<void>;
  /**
   * Looks whether the graphs allow calls of this kind, and opens nothing.
   * @throws BundleError, UnsupportedReducerError, SignalUnavailableError
   */
  check(forms: FormsRequest): Promise<void>;
  /** Runs a call; null where it was stopped. */
  generate(request: GenerateRequest): Promise<Outcome | null>;
  /**
   * A signal of the tokens whose plans are awaited, which did not come with them.
   * @param among number of the crop among those that are awaited; 0 for a prompt
   */
  signal(request: SignalRequest, among: number): Promise<Float32Array>;
  /** Neighbours by the rows of such a signal, see `TokenSource.nearest`. */
  nearest(rows: SignalRequest, of: Uint32Array, k: number, among: number): Promise<Uint32Array>;
  /** How alike rows of such a signal are, see `TokenSource.similarity`. */
  similarity(
    rows: SignalRequest,
    to: ComparedRows,
    measure: SimilarityMeasure,
    among: number,
  ): Promise<Float32Array>;
  /** Multiplies rows of the caller's thread, see `TokenSource.products`. */
  products: RowProducts;
  /** Forgets what was kept of a turn. */
  forget(turn: number): void;
  /** Ends the engine once nothing runs. */
  dispose(): Promise<void>;
}

/** The caller's thread, as the engine sees it during a call. */
export interface CallerApi {
  /** Decodes and preprocesses one image of the call. */
  image(index: number): Promise<PreparedImage>;
  /**
   * Plans for the tokens of an image's crops, ranked together, at a site of the encoder: for each crop one a
   * reducer there, in the order of the chain.
   */
  planCrops(crops: readonly CropTokens[]): Promise<readonly (readonly ReductionPlan[])[]>;
  /**
   * The same of one crop on the backend of the caller's thread, which also applies the plans. The features
   * are those of the tokens left.
   */
  reduceCrop(tokens: CropTokens, features: Features): Promise<ReducedCrop>;
  /** Plans for all visual tokens of the prompt that are left before a layer of the language model. */
  planPrompt(tokens: PromptTokens): Promise<readonly ReductionPlan[]>;
  /** One generated token, as soon as there is one. */
  token(tokenId: number): void;
}

/** What the engine opens. */
export interface EngineSettings {
  /** Paths of the ONNX files. */
  readonly graphs: Readonly<Record<GraphName, string>>;
  /** 0: onnxruntime decides. */
  readonly threads: number;
  readonly device: Device;
  readonly family: FamilySettings;
  /**
   * Largest difference of a feature between a patched encoder and the bundle's own, as a share of the largest
   * feature.
   */
  readonly identityTolerance: number;
  /** Base of the language model's rotary positions. */
  readonly rotaryBase: number;
  /** Most bytes of keys and values that are kept between the turns of chats. */
  readonly maxChatBytes: number;
}

/** What the graphs say of the model. */
export interface ModelDimensions {
  /** Layers of the language model. */
  readonly layers: number;
  /** Numbers of the layers that have keys and values, ascending: all, but in hybrid models. */
  readonly cachedLayers: readonly number[];
  /** What other layers keep: none, but in hybrid models. */
  readonly states: readonly LayerState[];
  readonly kvHeads: number;
  readonly headDim: number;
  /** Bytes of one number of the KV cache. */
  readonly kvBytes: number;
}

/** What a layer keeps of all tokens that it saw, however many: that of a convolution, or of a recurrence. */
export interface LayerState {
  /** Names of the graph's input and output. */
  readonly past: string;
  readonly present: string;
  readonly type: 'float32' | 'float16';
  readonly dims: readonly number[];
}

/** The forms of the graphs that a call needs. */
export interface FormsRequest {
  /** Null: the bundle's own encoder. */
  readonly vision: VisionRequest | null;
  /** By ascending layer; none: the bundle's own decoder. */
  readonly language: readonly InnerSite[];
  /** How the language model attends to tokens that stand for several; null: to each as to one. */
  readonly calibration: Calibration | null;
}

/** An encoder with further outputs, cut at its features, where tokens are reduced. */
export interface VisionRequest {
  /** Before layers of the encoder, ascending. */
  readonly sites: readonly InnerSite[];
  /** Inside every layer up to the one that makes the features; then there are no `sites`. Null: nothing. */
  readonly merging: Merging | null;
  /** What reducers read on the features, each of a layer that is counted from the start. */
  readonly signals: readonly SignalRequest[];
}

/** What a call does inside every layer of the encoder, between attention and MLP. */
export interface Merging {
  /**
   * How much the graph merges by the keys of each layer, mean over its heads; null: the caller's thread
   * decides, between two parts of the graph a layer.
   */
  readonly amount: MergeAmount | null;
  /** What reducers read of the layer itself, where the caller's thread decides; its number is left out. */
  readonly signals: readonly SignalRequest[];
}

/** What a call does before one layer of a tower. */
export interface InnerSite {
  /** The first layer that sees fewer tokens, counted from the start. */
  readonly layer: number;
  /**
   * The decision, where the graph makes it; null: the caller's thread does, between two parts of the graph.
   * It is one or the other for all sites of a tower.
   */
  readonly rule: Rule | null;
  /** What reducers read there, where the caller's thread decides. */
  readonly signals: readonly SignalRequest[];
  /** Of the tokens that go on, see `TokenReducer.positions`. */
  readonly positions: 'original' | 'renumbered';
}

/** Keeps the tokens with the highest scores; ties keep the lower index. */
export interface Rule {
  readonly score: SignalRequest;
  readonly budget: Budget;
}

/** One call. */
export interface GenerateRequest extends FormsRequest {
  /** Token ids of the prompt, one image token for each image. */
  readonly promptIds: readonly number[];
  readonly imageTokenId: number;
  readonly endTokenIds: readonly number[];
  readonly contextLength: number | null;
  readonly images: number;
  /** Whether an image that the encoder saw last need not be encoded again. */
  readonly reuseEncoding: boolean;
  /** Whether the caller's thread gets the features, and applies its plans itself. */
  readonly handOut: boolean;
  /** What has a budget of its own on the features. */
  readonly per: 'crop' | 'image';
  readonly maxNewTokens: number;
  readonly temperature: number;
  readonly seed: number;
  readonly rules: GenerationRules;
  readonly stream: boolean;
  /** [1] set to 1 by the caller's thread to end the call between two runs. */
  readonly stop: Int32Array;
  /** Null: a call of its own. */
  readonly chat: ChatTurn | null;
}

/** A turn of a chat, by numbers that the caller's thread gives to the turns that the engine keeps. */
interface ChatTurn {
  /** The turn before, of the same reducers; null: this is the first. */
  readonly behind: number | null;
  /** What this one will be kept as. */
  readonly keepAs: number;
}

/** An image, decoded and preprocessed. */
export interface PreparedImage {
  readonly imageHash: string;
  /** Of the upright image, in pixels. */
  readonly size: Size;
  /** One a crop. */
  readonly crops: readonly PixelValues[];
  /**
   * Token ids of what is written in the prompt for the image, an image token for each crop; empty where the
   * family writes nothing.
   */
  readonly written: readonly number[];
}

/** Rows of numbers: one a visual token. */
export interface Features {
  /** [length, width] */
  readonly data: Float32Array;
  readonly length: number;
}

/** The tokens of one crop inside the encoder, or on its features. */
export interface CropTokens {
  readonly site: VisionSite;
  readonly image: number;
  readonly crop: number;
  /** Out of the encoder, as the signals have them. */
  readonly length: number;
  /** Those of them that reducers see, ascending, because the others stand for padding; null: all. */
  readonly left: Uint32Array | null;
  /**
   * From the patches that signals of the encoder's layers are about to the tokens; null where each patch is
   * one.
   */
  readonly fold: ReductionPlan | null;
  /** Of those left. Null where they do not fill one. */
  readonly grid: Grid | null;
  /** [length] patches that each stands for; null: one, or as `fold` says. */
  readonly sizes: Float32Array | null;
  /** Inside a layer, with how many patches entered the encoder; null elsewhere. */
  readonly encoder: (EncoderPlace & { readonly entered: number }) | null;
  readonly signals: readonly SentSignal[];
  /** Whether attention maps have the class token first. */
  readonly classToken: boolean;
}

/**
 * A signal of a crop or a prompt. Small ones come with it; null: the others stay in the engine, and are asked
 * for.
 */
export type SentSignal = SignalRequest & { readonly values: Float32Array | null };

/** What a backend in the caller's thread made of a crop. */
export interface ReducedCrop {
  readonly features: Features;
  readonly plans: readonly ReductionPlan[];
}

/** The visual tokens of a prompt that are left before a layer of the language model. */
export interface PromptTokens {
  readonly layer: number;
  /** The run that each image has among them. */
  readonly spans: readonly Span[];
  /** Where they stand among all tokens there, ascending. */
  readonly places: readonly number[];
  /** How many visual tokens entered the language model. */
  readonly entered: number;
  readonly signals: readonly SentSignal[];
}

/** What became of a crop before the language model. */
export interface CropOutcome {
  readonly grid: Grid | null;
  /** What the grid covers of the upright image. */
  readonly region: Region;
  /** Patches that the encoder read, those left out that stand for padding. */
  readonly inputTokens: number;
  /**
   * What became of them inside the encoder, site by site and reducer by reducer: plans of the caller's
   * thread, or of the graph's rules.
   */
  readonly encoderPlans: readonly ReductionPlan[];
}

/** What became of a call. Points in time are milliseconds of a clock that both threads share. */
export interface Outcome {
  readonly tokenIds: readonly number[];
  readonly finishReason: 'end' | 'length';
  /** [images][crops] */
  readonly crops: readonly (readonly CropOutcome[])[];
  /**
   * [V * 3] of each visual token that enters the language model its image, its crop, and its number among the
   * crop's tokens that are left.
   */
  readonly origins: Uint32Array;
  /**
   * What became of all visual tokens inside the language model, site by site and reducer by reducer: plans of
   * the caller's thread, or of the graph's rules.
   */
  readonly languagePlans: readonly ReductionPlan[];
  readonly visionMs: number;
  readonly reduceMs: number;
  readonly prefillMs: number;
  readonly firstTokenAt: number;
  readonly lastTokenAt: number;
  /** Decoder runs after the first. */
  readonly steps: number;
  readonly cached: { readonly text: number; readonly visual: number; readonly generated: number };
  /** Tokens of the prompt that an earlier turn of the chat had run. */
  readonly reusedTokens: number;
  readonly kvBytesPerLayer: readonly number[];
  readonly warnings: readonly string[];
}
