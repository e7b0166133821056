import type { ValueInfoProto } from 'onnx-buf';
import { allTensors } from './weights.js';
import { operatorName, tensorShape } from './graph-index.js';
import type { OnnxModel } from './model.js';
import { byteLength, elementTypeName } from './tensor.js';

/** One input or output of a graph. */
export interface TensorDescription {
  readonly name: string;
  /**
   * As onnxruntime calls it in JavaScript: `float32`, `float16`, `int64` ...; null where the graph does not
   * say.
   */
  readonly type: string | null;
  /** A number, the name of a free dimension, or null each; null altogether where the graph does not say. */
  readonly shape: readonly (number | string | null)[] | null;
}

/** What {@link describeModel} returns. */
export interface ModelDescription {
  /** What a caller has to feed. */
  readonly inputs: readonly TensorDescription[];
  readonly outputs: readonly TensorDescription[];
  /** Version by domain; the default domain is `ai.onnx`. */
  readonly opsets: Readonly<Record<string, number>>;
  /**
   * Number of nodes by operator (`MatMul`, `com.microsoft.Attention`), the commonest first; subgraphs not
   * counted.
   */
  readonly operators: Readonly<Record<string, number>>;
  /** Bytes of weights, wherever they lie. */
  readonly weightBytes: number;
  /**
   * Files that weights lie in, relative to the model's folder; none for a model read from bytes with all its
   * weights.
   */
  readonly weightFiles: readonly string[];
  /** Which program exported the model, as the file states it. */
  readonly producer: string;
}

/** What a graph takes, puts out and consists of: for messages and reports. */
export function describeModel({ proto, graph }: OnnxModel): ModelDescription {
  const initializers = new Set(graph.initializer.map(({ name }) => name));
  const counts = new Map<string, number>();
  for (const node of graph.node) counts.set(operatorName(node), (counts.get(operatorName(node)) ?? 0) + 1);
  return {
    inputs: graph.input.filter(({ name }) => !initializers.has(name)).map(describeTensor),
    outputs: graph.output.map(describeTensor),
    opsets: Object.fromEntries(
      proto.opsetImport.map((opset) => [opset.domain || 'ai.onnx', Number(opset.version)]),
    ),
    operators: Object.fromEntries([...counts].sort((a, b) => b[1] - a[1])),
    weightBytes: [...allTensors(graph)].reduce((bytes, tensor) => bytes + (byteLength(tensor) ?? 0), 0),
    weightFiles: [
      ...new Set(
        [...allTensors(graph)].flatMap(({ externalData }) =>
          externalData.filter(({ key }) => key === 'location').map(({ value }) => value),
        ),
      ),
    ],
    producer: `${proto.producerName} ${proto.producerVersion}`.trim(),
  };
}

function describeTensor(info: ValueInfoProto): TensorDescription {
  const type = info.type?.value;
  return {
    name: info.name,
    type: type?.case === 'tensorType' ? elementTypeName(type.value.elemType) : null,
    shape: tensorShape(info),
  };
}
