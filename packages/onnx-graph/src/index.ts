import type { OnnxModel } from './model.js';

export { OnnxArgumentError, OnnxFileError, OnnxGraphError, OnnxStructureError } from './errors.js';
export type { OnnxModel } from './model.js';

// Draft: the signatures that @foveate/lvlm can build on; bodies follow.

/**
 * Reads a model from a path or from bytes. From a path, initializers of 1 KiB and more are not read: they become external
 * data that points into the file (synchronous; some milliseconds for any size of file).
 * @throws OnnxFileError
 */
export declare function readModel(source: string | Uint8Array): OnnxModel;

/**
 * What `InferenceSession.create` needs: `create(bytes, sessionOptions)` where
 * `sessionOptions.extra.session.model_external_initializers_file_folder_path` is `folder` (absent: nothing external).
 */
export declare function serializeModel(model: OnnxModel): { bytes: Uint8Array; folder?: string };

/** A short description of a graph: inputs and outputs with types and shapes, opsets, node counts. */
export declare function describeModel(model: OnnxModel): ModelDescription;
/** What {@link describeModel} returns. */
export interface ModelDescription {
  readonly inputs: readonly TensorDescription[];
  readonly outputs: readonly TensorDescription[];
  /** Version by domain; `ai.onnx` is the default domain. */
  readonly opsets: Readonly<Record<string, number>>;
  /** Number of nodes by operator, other domains as `domain:Operator`. */
  readonly operators: Readonly<Record<string, number>>;
  /** Bytes of weights, wherever they lie. */
  readonly weightBytes: number;
}
/** One input or output. */
export interface TensorDescription {
  readonly name: string;
  /** Name as in onnxruntime: `float32`, `float16`, `int64`, ...; null where the graph does not say. */
  readonly type: string | null;
  /** A number, a name of a free dimension, or null; null altogether where the graph does not say. */
  readonly shape: readonly (number | string | null)[] | null;
}

/**
 * Finds the encoder, its attention layers, the features and the projector by structure, never by name.
 * @throws OnnxStructureError, OnnxArgumentError
 */
export declare function findVisionEncoder(model: OnnxModel, options?: { output?: string }): VisionEncoder;
/** What {@link findVisionEncoder} found. */
export interface VisionEncoder {
  /** Graph input with the pixels. */
  readonly input: string;
  /** Graph output that the projector writes, e.g. `image_features`. */
  readonly output: string;
  /** Self-attention layers present in the graph, from the pixels on; layers behind the features included. */
  readonly layers: readonly AttentionLayer[];
  /** Index in `layers` of the attention that made the features: the one nearest upstream of the output. */
  readonly featuresLayer: number;
  /** Tokens before the first patch that the graph drops before the projector: 1 for CLS, 0 for none. */
  readonly prefixTokens: number;
  /** Tensor [B, N, D] that enters the projector. */
  readonly features: string;
  /** Absent where the output is the features themselves. */
  readonly projector?: {
    /** Each output token depends on the features token of the same index alone: a selection may be applied after it. */
    readonly perToken: boolean;
  };
}
/** One self-attention of the encoder. */
export interface AttentionLayer {
  readonly form: 'softmax' | 'ai.onnx.Attention' | 'com.microsoft.Attention' | 'com.microsoft.MultiHeadAttention';
  /** Absent where the graph does not say. */
  readonly heads?: number;
}

/** A signal that a vision encoder can put out. All are float32; N counts patches, without the prefix tokens. */
export type VisionSignal = 'attentionGiven' | 'attentionReceived' | 'classAttention' | 'keys' | 'attentionShare';
/** One signal wanted: [B, N]; `keys` [B, N, D]; `attentionShare` [B, layers present up to the features' one]. */
export interface VisionSignalRequest {
  readonly signal: VisionSignal;
  /** Index in {@link VisionEncoder.layers}. Default `'features'`. Not for `attentionShare`, which covers all layers. */
  readonly layer?: 'features' | number;
}
/**
 * The model with the signals as further outputs; the others stay as they are. `outputs[i]` is the name of the output for
 * `requests[i]` (equal requests share one).
 * @throws OnnxStructureError (e.g. class attention without CLS), OnnxArgumentError
 */
export declare function addSignals(
  model: OnnxModel,
  encoder: VisionEncoder,
  requests: readonly VisionSignalRequest[],
): { model: OnnxModel; outputs: string[] };

/**
 * Cuts at the features: `encoder` puts out `features` [B, N, D] in place of the image features (signals added before
 * stay), `projector` maps `features` [B, M, D], any M, to the image features [B, M, D'].
 * Both share the original's weights. `model` is the one `encoder` was found in, or that one with signals added.
 * @throws OnnxStructureError where there is no clean cut
 */
export declare function splitAtFeatures(
  model: OnnxModel,
  encoder: VisionEncoder,
): { encoder: OnnxModel; projector: OnnxModel; features: string };
