/** An ONNX model in memory: read from bytes, written as bytes for a session. */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema, type GraphProto, type ModelProto } from 'onnx-buf';
import { OnnxArgumentError, OnnxFileError } from './errors.js';
import { isExternal } from './tensor.js';
import { allTensors, checkInlineData } from './weights.js';

/**
 * An ONNX model in memory. Weights that came from a file stayed there. Never changed in place: editing makes
 * a new one.
 */
export interface OnnxModel {
  /** Where it came from, for messages: a path, or `'bytes'`. */
  readonly file: string;
  /** The folder, links resolved, that external data is relative to; absent for a model read from bytes. */
  readonly folder?: string;
  /**
   * The protobuf message (generated classes of onnx-buf); an initializer's external data is relative to
   * `folder`.
   */
  readonly proto: ModelProto;
  /** `proto.graph`. */
  readonly graph: GraphProto;
}

/** What a session is created from, see {@link serializeModel}. */
export interface SerializedModel {
  /** The graph as an ONNX file's bytes. */
  readonly bytes: Uint8Array;
  /** Where onnxruntime finds the weights; absent where all of them are in `bytes`. */
  readonly folder?: string;
}

/** What to do about a damaged file. */
export const AGAIN: string = 'Download or export the file again.';

/**
 * Reads a model from the bytes of an ONNX file, which must not change afterwards. Weights stay in them, and
 * external data is refused: `readModel` of `@foveate/onnx-graph/files` reads a path and leaves weights where
 * they are.
 *
 * @throws OnnxFileError where the bytes are truncated, no ONNX model, or have their weights elsewhere
 */
export function parseModel(bytes: Uint8Array): OnnxModel {
  if (!(bytes instanceof Uint8Array)) throw new OnnxArgumentError('bytes', typeof bytes, 'a Uint8Array');
  const [proto, graph] = decodeModel('bytes', bytes);
  for (const tensor of allTensors(graph)) {
    if (isExternal(tensor)) {
      const problem = `tensor "${tensor.name}" has its values in another file, which bytes alone cannot reach.`;
      throw new OnnxFileError('bytes', `${problem} Read the model from its path.`);
    }
    checkInlineData('bytes', tensor);
  }
  return { file: 'bytes', proto, graph };
}

/**
 * The model as bytes for `InferenceSession.create(bytes, options)`. Where `folder` is there, the options need
 * `extra: { session: { model_external_initializers_file_folder_path: folder } }`: the weights are read from
 * the original files. Nothing is written to disk, and no weight that lies in a file is copied.
 */
export function serializeModel(model: OnnxModel): SerializedModel {
  const bytes = toBinary(ModelProtoSchema, model.proto);
  return model.folder === undefined ? { bytes } : { bytes, folder: model.folder };
}

/** `model` with another graph, everything else shared. */
export function withGraph(model: OnnxModel, graph: GraphProto): OnnxModel {
  return { ...model, graph, proto: Object.assign(create(ModelProtoSchema), model.proto, { graph }) };
}

/** A model's messages, if they are what every complete model has. @throws OnnxFileError */
export function decodeModel(file: string, bytes: Uint8Array): [ModelProto, GraphProto] {
  let proto: ModelProto;
  try {
    proto = fromBinary(ModelProtoSchema, bytes);
  } catch (error) {
    // The library throws bare errors, and a RangeError where messages nest too deep.
    throw new OnnxFileError(file, `is truncated or no ONNX model: ${(error as Error).message}. ${AGAIN}`, {
      cause: error,
    });
  }
  return [proto, checkModel(file, proto)];
}

/** The graph, if `proto` has what every complete model has. */
function checkModel(file: string, proto: ModelProto): GraphProto {
  const { graph, opsetImport } = proto;
  if (proto.irVersion === 0n || graph === undefined || graph.output.length === 0) {
    throw new OnnxFileError(file, `is truncated or no ONNX model: it has no graph with outputs. ${AGAIN}`);
  }
  const domains = new Set(opsetImport.map((opset) => opset.domain || 'ai.onnx'));
  for (const node of graph.node) {
    const domain = node.domain || 'ai.onnx';
    if (!domains.has(domain)) {
      const problem = `is truncated: it uses operator ${domain}.${node.opType} but imports no version of "${domain}".`;
      throw new OnnxFileError(file, `${problem} ${AGAIN}`);
    }
  }
  return graph;
}
