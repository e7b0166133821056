/** The tensors of a graph, and whether those in it have the bytes that they need. */
import type { GraphProto, TensorProto } from 'onnx-buf';
import { OnnxFileError } from './errors.js';
import { byteLength } from './tensor.js';

/** Every tensor of a graph: initializers, constants, and those of subgraphs. */
export function* allTensors(graph: GraphProto): Generator<TensorProto> {
  yield* graph.initializer;
  for (const sparse of graph.sparseInitializer) {
    if (sparse.values) yield sparse.values;
    if (sparse.indices) yield sparse.indices;
  }
  for (const attribute of graph.node.flatMap((node) => node.attribute)) {
    if (attribute.t) yield attribute.t;
    yield* attribute.tensors;
    if (attribute.g) yield* allTensors(attribute.g);
    for (const subgraph of attribute.graphs) yield* allTensors(subgraph);
  }
}

/** @throws OnnxFileError where a tensor in the graph itself has another number of bytes than it needs */
export function checkInlineData(file: string, tensor: TensorProto): void {
  const expected = byteLength(tensor);
  if (expected !== undefined && tensor.rawData.length > 0 && tensor.rawData.length !== expected) {
    throw sizeMismatch(file, tensor, tensor.rawData.length);
  }
}

/** A tensor with another number of bytes than it needs. */
export function sizeMismatch(file: string, tensor: TensorProto, found: number | string): OnnxFileError {
  const shape = `[${tensor.dims.join(', ')}] of element type ${tensor.dataType}`;
  return new OnnxFileError(
    file,
    `tensor "${tensor.name}" is ${shape} but has ${found} bytes. Download or export the model again.`,
  );
}
