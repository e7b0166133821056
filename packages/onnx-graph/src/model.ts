import type { GraphProto, ModelProto } from 'onnx-buf';

/** An ONNX model in memory. Weights that came from a file stayed there. Never changed in place: editing makes a new one. */
export interface OnnxModel {
  /** Where it came from, for messages: a path, or `'bytes'`. */
  readonly file: string;
  /** The folder, links resolved, that external data is relative to; absent for a model read from bytes. */
  readonly folder?: string;
  /** The protobuf message (generated classes of onnx-buf). */
  readonly proto: ModelProto;
  /** `proto.graph`. */
  readonly graph: GraphProto;
}
