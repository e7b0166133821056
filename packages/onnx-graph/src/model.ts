/** An ONNX model in memory: read from a path without its weights, or from bytes; written as bytes for a session. */
import { closeSync, fstatSync, openSync, readSync, realpathSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema, type GraphProto, type ModelProto } from 'onnx-buf';
import { OnnxArgumentError, OnnxFileError } from './errors.js';
import { checkTensorData, resolveExternalData } from './external-data.js';
import { readSkeleton, WireError, type ByteSource } from './skeleton.js';

/** An ONNX model in memory. Weights that came from a file stayed there. Never changed in place: editing makes a new one. */
export interface OnnxModel {
  /** Where it came from, for messages: a path, or `'bytes'`. */
  readonly file: string;
  /** The folder, links resolved, that external data is relative to; absent for a model read from bytes. */
  readonly folder?: string;
  /** The protobuf message (generated classes of onnx-buf); an initializer's external data is relative to `folder`. */
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

const AGAIN = 'Download or export the file again.';

/**
 * Reads a model from a path or from bytes.
 *
 * From a path, large weights are not read: initializers of 1 KiB and more become external data that points, by offset and
 * length, into the file itself, so the cost is some milliseconds for any size of file. Existing external data is checked:
 * it has to lie beside the model or below (links resolved, so that a download cache's links work) and within its file.
 * Synchronous. From bytes, weights stay in the bytes, which must not change afterwards, and external data is refused.
 *
 * @throws OnnxFileError where there is no such file, it is truncated, no ONNX model, or its weights are out of bounds
 */
export function readModel(source: string | Uint8Array): OnnxModel {
  if (typeof source === 'string') return readFile(source);
  if (source instanceof Uint8Array) return readBytes('bytes', source);
  throw new OnnxArgumentError('source', typeof source, 'a path or a Uint8Array');
}

/**
 * The model as bytes for `InferenceSession.create(bytes, options)`. Where `folder` is there, the options need
 * `extra: { session: { model_external_initializers_file_folder_path: folder } }`: the weights are read from the original
 * files. Nothing is written to disk, and no weight that lies in a file is copied.
 */
export function serializeModel(model: OnnxModel): SerializedModel {
  const bytes = toBinary(ModelProtoSchema, model.proto);
  return model.folder === undefined ? { bytes } : { bytes, folder: model.folder };
}

/** `model` with another graph, everything else shared. */
export function withGraph(model: OnnxModel, graph: GraphProto): OnnxModel {
  return { ...model, graph, proto: Object.assign(create(ModelProtoSchema), model.proto, { graph }) };
}

function readFile(path: string): OnnxModel {
  const file = openFile(path);
  try {
    const start = Buffer.from(file.read(0, Math.min(file.size, 40))).toString('latin1');
    if (start.startsWith('version https://git-lfs')) {
      throw new OnnxFileError(
        path,
        'is a Git LFS pointer, not the model itself. Fetch it with `git lfs pull`.',
      );
    }
    const own = { location: basename(file.realPath), size: file.size };
    const [proto, graph] = decode(path, readSkeleton(file, own.location));
    const folder = dirname(file.realPath);
    resolveExternalData(path, folder, own, graph);
    return { file: path, folder, proto, graph };
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    throw new OnnxFileError(
      path,
      `is truncated or no ONNX model: ${error.message} of ${file.size}. ${AGAIN}`,
    );
  } finally {
    file.close();
  }
}

function readBytes(file: string, bytes: Uint8Array): OnnxModel {
  const [proto, graph] = decode(file, bytes);
  checkTensorData(file, graph);
  return { file, proto, graph };
}

function decode(file: string, bytes: Uint8Array): [ModelProto, GraphProto] {
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

/** A file read piece by piece through a small window. */
class FileSource implements ByteSource {
  readonly size: number;
  readonly realPath: string;
  readonly #path: string;
  readonly #descriptor: number;
  readonly #window: Buffer = Buffer.allocUnsafe(16384);
  #start = 0;
  #end = 0;

  constructor(path: string) {
    this.#path = path;
    this.realPath = realpathSync(path);
    this.#descriptor = openSync(this.realPath, 'r');
    const stat = fstatSync(this.#descriptor);
    if (!stat.isFile() || stat.size === 0) {
      this.close();
      throw new OnnxFileError(
        path,
        stat.isFile() ? `is empty. ${AGAIN}` : 'is not a file. Name the .onnx file itself.',
      );
    }
    this.size = stat.size;
  }

  read(start: number, end: number): Uint8Array {
    if (end - start > this.#window.length) return this.#fill(Buffer.allocUnsafe(end - start), start);
    if (start < this.#start || end > this.#end) {
      this.#start = start;
      this.#end = Math.min(start + this.#window.length, this.size);
      this.#fill(this.#window.subarray(0, this.#end - start), start);
    }
    return this.#window.subarray(start - this.#start, end - this.#start);
  }

  close(): void {
    closeSync(this.#descriptor);
  }

  #fill(buffer: Buffer, position: number): Buffer {
    for (let filled = 0; filled < buffer.length;) {
      const count = readSync(this.#descriptor, buffer, filled, buffer.length - filled, position + filled);
      if (count === 0) throw new OnnxFileError(this.#path, 'became shorter while it was read.');
      filled += count;
    }
    return buffer;
  }
}

function openFile(path: string): FileSource {
  try {
    return new FileSource(path);
  } catch (error) {
    if (OnnxFileError.isInstance(error)) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
    const problem = code === 'ENOENT' ? 'there is no such file.' : `cannot be opened (${code}).`;
    throw new OnnxFileError(path, `${problem} Check the path and its permissions.`, { cause: error });
  }
}
