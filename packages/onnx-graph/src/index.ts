export type { AttentionForm } from './attention.js';
export { biasDecoder, type BiasedDecoder } from './bias-decoder.js';
export { decoderSignals } from './decoder-signals/index.js';
export type { DecoderSignal, DecoderSignalRequest } from './decoder-signals/decoder-signal.js';
export { findDecoder, type Decoder, type DecoderAttentionForm, type DecoderLayer } from './decoder.js';
export { describeModel, type ModelDescription, type TensorDescription } from './describe.js';
export { OnnxArgumentError, OnnxFileError, OnnxGraphError, OnnxStructureError } from './errors.js';
export { weighSizes, type WeighedEncoder } from './weigh-sizes.js';
export { mergeEncoder, type MergedEncoder } from './merge-encoder.js';
export { parseModel, serializeModel, type OnnxModel, type SerializedModel } from './model.js';
export type { PromptRows } from './prompt-attention.js';
export { pruneDecoder, type DecoderPruning, type PrunedDecoder, type PruningNames } from './prune-decoder.js';
export {
  pruneEncoder,
  type EncoderPruning,
  type EncoderPruningNames,
  type PrunedEncoder,
} from './prune-encoder.js';
export { rowProductsGraph } from './row-products.js';
export { addSignals, type ScoreRequest, type SignalOutputs } from './signals/add-signals.js';
export type { GraphSignal, SignalRequest } from './signals/graph-signal.js';
export { graphSignals } from './signals/index.js';
export { splitDecoder, type DecoderCut, type DecoderPart, type SplitDecoder } from './split-decoder.js';
export { splitEncoder, type SplitEncoderLayers } from './split-encoder.js';
export { splitAtFeatures, type SplitEncoder } from './split-at-features.js';
export {
  findVisionEncoder,
  type AttentionLayer,
  type FindOptions,
  type VisionEncoder,
} from './vision-encoder.js';
