/**
 * What onnxruntime computes for a reduction: the graph that @foveate/onnx-graph adds to an encoder, on its
 * own, and the one that it compares keys by.
 */
import { create, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import {
  AttributeProto_AttributeType as AttributeType,
  ModelProtoSchema,
  TensorProto_DataType as DataType,
  type NodeProtoSchema,
  type TensorProtoSchema,
  type ValueInfoProtoSchema,
} from 'onnx-buf';
import type { RowProducts } from '@foveate/core';
import { rowProductsGraph } from '@foveate/onnx-graph';
import * as ort from 'onnxruntime-node';

process.env.ORT_DISABLE_TELEMETRY ??= '1'; // as the runner does; read when the first session is opened

/** Reads a map [H, L, L] with CLS; [N] each. */
export type ReadSignificance = (
  attention: Float32Array,
) => Promise<Record<'given' | 'received', Float32Array>>;

/** Opens the graph that compares keys. */
export async function openRowProducts(): Promise<RowProducts> {
  const session = await ort.InferenceSession.create(rowProductsGraph());
  const matrix = (data: Float32Array, channels: number): ort.Tensor =>
    new ort.Tensor('float32', data, [data.length / channels, channels]);
  return async (rows, others, channels) => {
    const { products } = await session.run({
      rows: matrix(rows, channels),
      others: matrix(others, channels),
    });
    return products.data as Float32Array;
  };
}

/** Opens the graph of the reductions. */
export async function openSignificanceGraph(heads: number, side: number): Promise<ReadSignificance> {
  const session = await ort.InferenceSession.create(significanceGraph(heads, side));
  return async (attention) => {
    const { given, received } = await session.run({
      attention: new ort.Tensor('float32', attention, [1, heads, side, side]),
    });
    return { given: given.data as Float32Array, received: received.data as Float32Array };
  };
}

/** Means over the heads and over keys (axis 3) or queries (axis 2), CLS left out by subtracting its own. */
function significanceGraph(heads: number, side: number): Uint8Array {
  const node: MessageInitShape<typeof NodeProtoSchema>[] = [];
  const add = (opType: string, input: string[], output: string): string => {
    node.push({ opType, input, output: [output] });
    return output;
  };
  const reduce = (opType: string, map: string, axis: string, output: string): string => {
    const attribute = [{ name: 'keepdims', type: AttributeType.INT, i: 0n }];
    node.push({ opType, input: [map, axis], output: [output], attribute });
    return output;
  };
  const ints = { zero: 0, one: 1, two: 2, three: 3, end: side };
  for (const [signal, axis] of [
    ['given', 'three'],
    ['received', 'two'],
  ] as const) {
    const sum = (map: string, name: string): string =>
      reduce('ReduceMean', reduce('ReduceSum', map, axis, `${name}_heads`), 'one', name);
    const all = axis === 'three' ? 'ones' : sum('attention', `${signal}_all`);
    const fromClass = sum(
      add('Slice', ['attention', 'zero', 'one', axis], `${signal}_class`),
      `${signal}_prefix`,
    );
    const tokens = add('Sub', [all, fromClass], `${signal}_sums`);
    add('Div', [add('Slice', [tokens, 'one', 'end', 'one'], `${signal}_tokens`), 'count'], signal);
  }
  const float = (name: string, value: number): MessageInitShape<typeof TensorProtoSchema> => ({
    name,
    dataType: DataType.FLOAT,
    dims: [1n],
    floatData: [value],
  });
  const integers = Object.entries(ints).map(([name, value]) => ({
    name,
    dataType: DataType.INT64,
    dims: [1n],
    int64Data: [BigInt(value)],
  }));
  return toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, {
      irVersion: 8n,
      opsetImport: [{ domain: '', version: 18n }],
      graph: {
        name: 'significance',
        node,
        input: [info('attention', [1, heads, side, side])],
        output: [info('given', [1, side - 1]), info('received', [1, side - 1])],
        initializer: [...integers, float('ones', 1), float('count', side - 1)],
      },
    }),
  );
}

function info(name: string, shape: readonly number[]): MessageInitShape<typeof ValueInfoProtoSchema> {
  const dim = shape.map((size) => ({ value: { case: 'dimValue', value: BigInt(size) } as const }));
  const value = { case: 'tensorType', value: { elemType: DataType.FLOAT, shape: { dim } } } as const;
  return { name, type: { value } };
}
