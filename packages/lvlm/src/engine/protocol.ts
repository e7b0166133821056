/**
 * What the caller's thread and the worker say to each other. One call runs at a time, so no message needs a number:
 * `generate`, then for each image `encoded` and `plans` (only where there are reducers), perhaps `prompted` and `plans`, `token` for each token, at last `done` or `failed`.
 * The KV cache never appears here; features and attention maps only where the caller's thread reduces them on a backend of its own.
 */
import type {
  Budget,
  EncoderLayer,
  EncoderSignalRequest,
  Grid,
  PromptSignalRequest,
  ReductionPlan,
  ShareSignalRequest,
  Signal,
  Span,
} from '@foveate/core';
import type { GraphName } from '../bundle/bundle.js';
import type { SentError } from './error-transfer.js';
import type { IdentityCheck } from './identity-check.js';
import type { PixelValues } from '../bundle/preprocessing.js';

/** The signals that an encoder graph can give. */
export type VisionSignalRequest = EncoderSignalRequest | ShareSignalRequest;

/** What the worker starts with. */
export interface WorkerInit {
  readonly graphs: Readonly<Record<GraphName, string>>;
  /** 0: onnxruntime decides. */
  readonly threads: number;
  readonly patchSize: number;
  readonly visionLayers: number;
  readonly identityCheck: IdentityCheck;
  /** The encoder to have ready. */
  readonly encoder: EncoderRequest;
  /** The form of the decoder to have ready. */
  readonly language: LanguageRequest | null;
}

/** Which encoder a call needs: null the bundle's own, otherwise one with these outputs, cut at its projector. */
export type EncoderRequest = EncoderOutputs | null;

/** What an encoder puts out beside its features. */
export interface EncoderOutputs {
  readonly signals: readonly VisionSignalRequest[];
  /** Layers whose attention maps come out whole, for the caller's thread to reduce. */
  readonly maps: readonly EncoderLayer[];
}

/** The attention of one layer. */
export interface AttentionMap {
  readonly layer: EncoderLayer;
  /** [heads, side, side]; side is the number of visual tokens, or one more with CLS first. */
  readonly data: Float32Array;
  readonly heads: number;
  readonly side: number;
}

/** Rows of numbers: one a visual token. */
export interface Rows {
  /** [length, width] */
  readonly data: Float32Array;
  readonly length: number;
}

/** What a call does inside the language model: layers from `layer` on see fewer visual tokens. */
export type LanguageRequest = TopKRequest | SplitRequest;

interface LayerRequest {
  /** The reducer's name, for messages. */
  readonly reducer: string;
  /** K */
  readonly layer: number;
}

/** The decoder's graph keeps the tokens of the highest attention in layer K-1. */
export interface TopKRequest extends LayerRequest {
  readonly route: 'graph';
  readonly rows: PromptSignalRequest['rows'];
  readonly budget: Budget;
}

/** The caller's thread decides by these signals, between two graphs. */
export interface SplitRequest extends LayerRequest {
  readonly route: 'split';
  readonly signals: readonly PromptSignalRequest[];
}

/** One call. */
export interface GenerateRequest {
  readonly ids: readonly number[];
  readonly imageTokenId: number;
  readonly endTokenIds: readonly number[];
  readonly contextLength: number | null;
  readonly images: readonly PixelValues[];
  /** The images' keys, where an image that the encoder saw last need not be encoded again; null where it must. */
  readonly reuse: readonly string[] | null;
  readonly encoder: EncoderRequest;
  readonly language: LanguageRequest | null;
  /** Whether the caller's thread gets the features, and applies its plans itself. */
  readonly handOut: boolean;
  readonly maxNewTokens: number;
  readonly temperature: number;
  readonly seed: number;
  readonly stream: boolean;
  /** [1] set to 1 by the caller's thread to end the call between two runs. */
  readonly stop: Int32Array;
}

/** From the caller's thread. */
export type ToWorker =
  | { readonly type: 'generate'; readonly request: GenerateRequest }
  /** The plans of the image last encoded, one a reducer, or the one plan of the prompt; null: end the call. */
  | { readonly type: 'plans'; readonly plans: readonly ReductionPlan[] | null }
  /** What such plans left of features that were handed out. */
  | { readonly type: 'reduced'; readonly features: Rows }
  | { readonly type: 'query'; readonly id: number; readonly query: KeysQuery }
  /** End the thread, after the call that runs. */
  | { readonly type: 'dispose' };

/** What is asked of the keys, which stay in the worker unless all of them are wanted. */
export type KeysQuery =
  | { readonly ask: 'keys'; readonly request: EncoderSignalRequest }
  | {
      readonly ask: 'nearest';
      readonly request: EncoderSignalRequest;
      readonly of: Uint32Array;
      readonly k: number;
    };

/** From the worker. */
export type FromWorker =
  | { readonly type: 'loaded'; readonly dimensions: DecoderDimensions }
  | {
      readonly type: 'encoded';
      readonly image: number;
      readonly length: number;
      readonly grid: Grid | null;
      /** Keys only where they are handed out. */
      readonly signals: readonly Signal[];
      /** Null where they stay in the worker. */
      readonly handedOut: { readonly features: Rows; readonly maps: readonly AttentionMap[] } | null;
    }
  /** The prompt has gone through the layers below the language stage. */
  | { readonly type: 'prompted'; readonly spans: readonly Span[]; readonly signals: readonly Signal[] }
  | { readonly type: 'answer'; readonly id: number; readonly values: Float32Array | Uint32Array }
  | { readonly type: 'refused'; readonly id: number; readonly error: SentError }
  | { readonly type: 'token'; readonly token: number }
  | { readonly type: 'done'; readonly outcome: Outcome }
  /** Null: the call was stopped by the caller's thread. */
  | { readonly type: 'failed'; readonly error: SentError | null };

/** What the decoder's inputs say of it. */
export interface DecoderDimensions {
  readonly layers: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Bytes of one number of the KV cache. */
  readonly kvBytes: number;
}

/** What became of a call. Times are milliseconds of `process.hrtime`, which all threads share. */
export interface Outcome {
  readonly tokens: readonly number[];
  readonly finishReason: 'end' | 'length';
  readonly images: readonly {
    readonly grid: Grid | null;
    readonly inputTokens: number;
    /** Into the language model. */
    readonly outputTokens: number;
  }[];
  /** What became of all visual tokens inside the language model; null where nothing did. */
  readonly languagePlan: ReductionPlan | null;
  readonly vision: number;
  readonly reduce: number;
  readonly prefill: number;
  readonly firstTokenAt: number;
  readonly lastTokenAt: number;
  /** Decoder runs after the first. */
  readonly steps: number;
  readonly cached: { readonly text: number; readonly visual: number; readonly generated: number };
  readonly kvBytesPerLayer: readonly number[];
  readonly warnings: readonly string[];
}

/** Milliseconds on the clock that all threads of the process share. */
export function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
