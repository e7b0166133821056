/**
 * Writes a Llama as the ONNX file that a bundle calls decoder_model_merged.onnx, with random weights:
 * decoders of any size without Python.
 */
import { create, toBinary } from '@bufbuild/protobuf';
import {
  AttributeProto_AttributeType as AttributeType,
  AttributeProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  TensorProto_DataType as DataType,
  TensorProtoSchema,
  ValueInfoProtoSchema,
  type AttributeProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from 'onnx-buf';
import { type Llama, type LlamaLayer, type Matrix } from './llama.js';

/** Sizes of a random Llama. */
export interface LlamaSizes {
  readonly layers: number;
  /** Channels of the hidden state. */
  readonly width: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Channels inside the MLP. */
  readonly inner: number;
  readonly vocabulary: number;
}

/** How the graph is written. */
export interface GraphOptions {
  /**
   * Attention written out, its products as ai.onnx.Attention, or com.microsoft.GroupQueryAttention that
   * rotates by itself, as onnxruntime-genai writes it.
   */
  readonly attention: 'written out' | 'ai.onnx.Attention' | 'grouped';
  /** Whether `position_ids` is an input; written-out attention needs it. Default true. */
  readonly positions?: boolean;
  /**
   * Channels of the embeddings, where they are not those of the hidden state; a random matrix widens them.
   */
  readonly embeddingWidth?: number;
}

const MS = 'com.microsoft';
/** Rows of the rotary tables. */
const MAX_POSITIONS = 2048;

/** Weights that vary enough for tokens to attend to each other differently; the same for the same sizes. */
export function randomLlama({
  layers,
  width,
  heads,
  kvHeads,
  headDim,
  inner,
  vocabulary,
}: LlamaSizes): Llama {
  let state = 1;
  const uniform = (): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 31 - 1;
  const matrix = (inputs: number, outputs: number, gain: number = 1): Matrix => {
    const spread = gain * Math.sqrt(3 / inputs); // keeps the variance of what it is multiplied with
    return {
      inputs,
      outputs,
      values: Float32Array.from({ length: inputs * outputs }, () => spread * uniform()),
    };
  };
  const scale = (): Float32Array<ArrayBuffer> =>
    Float32Array.from({ length: width }, () => 1 + uniform() / 4);
  const layer = (): LlamaLayer => ({
    inputNorm: scale(),
    outputNorm: scale(),
    q: matrix(width, heads * headDim, 2),
    k: matrix(width, kvHeads * headDim, 2),
    v: matrix(width, kvHeads * headDim),
    o: matrix(heads * headDim, width),
    gate: matrix(width, inner),
    up: matrix(width, inner),
    down: matrix(inner, width),
  });
  return {
    ...{ heads, kvHeads, headDim, epsilon: 1e-6 },
    layers: Array.from({ length: layers }, layer),
    norm: scale(),
    head: matrix(width, vocabulary),
  };
}

/** The bytes of the ONNX file. */
export function llamaGraph(
  llama: Llama,
  { attention, positions = true, embeddingWidth }: GraphOptions,
): Uint8Array {
  const graph = new GraphWriter();
  const width = llama.norm.length;
  const grouped = attention === 'grouped';
  const attend = grouped
    ? groupedAttention(graph, llama, positions)
    : writtenOut(graph, llama, attention === 'ai.onnx.Attention');
  const norm = (x: string, scale: Float32Array<ArrayBuffer>): string =>
    graph.node('SimplifiedLayerNormalization', [x, graph.floats(scale, [width])], {
      axis: -1,
      epsilon: llama.epsilon,
    });
  const linear = (x: string, { values, inputs, outputs }: Matrix): string =>
    graph.node('MatMul', [x, graph.floats(values, [inputs, outputs])]);
  let hidden = 'inputs_embeds';
  if (embeddingWidth !== undefined) {
    const spread = Math.sqrt(1 / embeddingWidth);
    const values = Float32Array.from({ length: embeddingWidth * width }, (_, i) => spread * Math.sin(i * i));
    hidden = linear(hidden, { inputs: embeddingWidth, outputs: width, values });
  }
  for (const [i, layer] of llama.layers.entries()) {
    const h = norm(hidden, layer.inputNorm);
    const attended = attend(i, linear(h, layer.q), linear(h, layer.k), linear(h, layer.v));
    const middle = graph.node('Add', [hidden, linear(attended, layer.o)]);
    const m = norm(middle, layer.outputNorm);
    const gate = linear(m, layer.gate);
    const silu = graph.node('Mul', [gate, graph.node('Sigmoid', [gate])]);
    hidden = graph.node('Add', [middle, linear(graph.node('Mul', [silu, linear(m, layer.up)]), layer.down)]);
  }
  const wanted = graph.node('Reshape', ['num_logits_to_keep', graph.ints([1])]);
  const last = graph.node('Slice', [
    hidden,
    graph.node('Neg', [wanted]),
    graph.ints([2 ** 31 - 1]),
    graph.ints([1]),
  ]);
  graph.node(
    'MatMul',
    [norm(last, llama.norm), graph.floats(llama.head.values, [width, llama.head.outputs])],
    {},
    'logits',
  );

  const caches = llama.layers.flatMap((_, i) => [`${i}.key`, `${i}.value`]);
  const cache = (name: string, length: string): ValueInfoProto =>
    info(name, DataType.FLOAT, ['batch_size', llama.kvHeads, length, llama.headDim]);
  return toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, {
      irVersion: 10n,
      opsetImport: [{ version: attention === 'ai.onnx.Attention' ? 23n : 21n }, { domain: MS, version: 1n }],
      graph: {
        name: 'decoder',
        node: graph.nodes,
        initializer: graph.constants,
        input: [
          info('inputs_embeds', DataType.FLOAT, ['batch_size', 'sequence_length', embeddingWidth ?? width]),
          info('attention_mask', DataType.INT64, ['batch_size', 'total_sequence_length']),
          ...(positions ? [info('position_ids', DataType.INT64, ['batch_size', 'sequence_length'])] : []),
          info('num_logits_to_keep', DataType.INT64, []),
          ...caches.map((name) => cache(`past_key_values.${name}`, 'past_sequence_length')),
        ],
        output: [
          info('logits', DataType.FLOAT, ['batch_size', 'num_logits', llama.head.outputs]),
          ...caches.map((name) => cache(`present.${name}`, 'total_sequence_length')),
        ],
      },
    }),
  );
}

/**
 * From the projected queries, keys and values [B, S, heads * d] of a layer to what it attends to [B, S,
 * heads * d].
 */
type Attend = (layer: number, query: string, key: string, value: string) => string;

function groupedAttention(
  graph: GraphWriter,
  { heads, kvHeads, headDim }: Llama,
  positions: boolean,
): Attend {
  const half = headDim / 2;
  const table = (of: (angle: number) => number): string =>
    graph.floats(
      Float32Array.from({ length: MAX_POSITIONS * half }, (_, i) =>
        of(angle(Math.floor(i / half), i % half, headDim)),
      ),
      [MAX_POSITIONS, half],
    );
  const [cosines, sines] = [table(Math.cos), table(Math.sin)];
  const total = graph.node('ReduceSum', ['attention_mask', graph.ints([1])], { keepdims: 0 });
  const seqlens = graph.node('Cast', [graph.node('Sub', [total, graph.ints([1])])], { to: DataType.INT32 });
  const shape = graph.node('Shape', ['attention_mask']);
  const length = graph.node('Cast', [graph.node('Gather', [shape, graph.ints([1], [])])], {
    to: DataType.INT32,
  });
  return (layer, query, key, value) =>
    graph.node(
      'GroupQueryAttention',
      [
        ...[query, key, value, `past_key_values.${layer}.key`, `past_key_values.${layer}.value`],
        ...[seqlens, length, cosines, sines, ...(positions ? ['position_ids'] : [])],
      ],
      { num_heads: heads, kv_num_heads: kvHeads, do_rotary: 1, scale: headDim ** -0.5 },
      [graph.name(), `present.${layer}.key`, `present.${layer}.value`],
      MS,
    );
}

/** @param fused whether queries, keys and values go into one operator */
function writtenOut(graph: GraphWriter, { heads, kvHeads, headDim }: Llama, fused: boolean): Attend {
  const half = headDim / 2;
  const length = (x: string): string =>
    graph.node('Slice', [graph.node('Shape', [x]), graph.ints([1]), graph.ints([2]), graph.ints([0])]);
  const [tokens, total] = [length('inputs_embeds'), length('attention_mask')];
  const scalar = (x: string): string => graph.node('Reshape', [x, graph.ints([], [0])]);
  const range = (from: string, to: string): string =>
    graph.node('Range', [scalar(from), scalar(to), graph.ints([1], [])]);
  const keys = range(graph.ints([0]), total);
  const queries = graph.node('Reshape', [
    range(graph.node('Sub', [total, tokens]), total),
    graph.ints([-1, 1]),
  ]);
  const past = graph.node('LessOrEqual', [keys, queries]); // [S, T]
  const counts = graph.node('Cast', [graph.node('Unsqueeze', ['attention_mask', graph.ints([1, 2])])], {
    to: DataType.BOOL,
  });
  const visible = graph.node('And', [past, counts]); // [B, 1, S, T]
  const mask = graph.node('Where', [
    visible,
    graph.floats(Float32Array.of(0), []),
    graph.floats(Float32Array.of(-3.4e38), []),
  ]);
  const places = graph.node('Cast', [graph.node('Unsqueeze', ['position_ids', graph.ints([1, 3])])], {
    to: DataType.FLOAT,
  });
  const frequencies = graph.floats(
    Float32Array.from({ length: half }, (_, d) => angle(1, d, headDim)),
    [half],
  );
  const angles = graph.node('Mul', [places, frequencies]); // [B, 1, S, half]
  const [cosines, sines] = ['Cos', 'Sin'].map((of) => graph.node(of, [angles]));
  const split = (x: string, count: number): string =>
    graph.node('Transpose', [graph.node('Reshape', [x, graph.ints([0, 0, count, headDim])])], {
      perm: [0, 2, 1, 3],
    });
  const turn = (x: string): string => {
    const part = (start: number, end: number): string =>
      graph.node('Slice', [x, graph.ints([start]), graph.ints([end]), graph.ints([3])]);
    const [a, b] = [part(0, half), part(half, headDim)];
    const product = (u: string, v: string): string => graph.node('Mul', [u, v]);
    const first = graph.node('Sub', [product(a, cosines), product(b, sines)]);
    const second = graph.node('Add', [product(b, cosines), product(a, sines)]);
    return graph.node('Concat', [first, second], { axis: -1 });
  };
  const cached = (layer: number, part: string, x: string): string => {
    const all = graph.node(
      'Concat',
      [`past_key_values.${layer}.${part}`, x],
      { axis: 2 },
      `present.${layer}.${part}`,
    );
    if (kvHeads === heads) return all;
    const apart = graph.node('Unsqueeze', [all, graph.ints([2])]);
    const repeated = graph.node('Expand', [apart, graph.ints([1, 1, heads / kvHeads, 1, 1])]);
    return graph.node('Reshape', [repeated, graph.ints([0, heads, -1, headDim])]);
  };
  return (layer, query, key, value) => {
    const asking = turn(split(query, heads));
    const all = cached(layer, 'key', turn(split(key, kvHeads)));
    const values = cached(layer, 'value', split(value, kvHeads));
    if (fused) {
      // As exporters do, stated to have four axes.
      const stated = graph.node('Reshape', [asking, graph.ints([0, heads, -1, headDim])]);
      const hidden = graph.node('Reshape', [mask, graph.ints([0, 0, 0, -1])]);
      const result = graph.node('Attention', [stated, all, values, hidden], { scale: headDim ** -0.5 });
      const beside = graph.node('Transpose', [result], { perm: [0, 2, 1, 3] });
      return graph.node('Reshape', [beside, graph.ints([0, 0, heads * headDim])]);
    }
    const product = graph.node('MatMul', [asking, graph.node('Transpose', [all], { perm: [0, 1, 3, 2] })]);
    const scores = graph.node('Mul', [product, graph.floats(Float32Array.of(headDim ** -0.5), [])]);
    const shares = graph.node('Softmax', [graph.node('Add', [scores, mask])], { axis: -1 });
    const attended = graph.node('Transpose', [graph.node('MatMul', [shares, values])], {
      perm: [0, 2, 1, 3],
    });
    return graph.node('Reshape', [attended, graph.ints([0, 0, heads * headDim])]);
  };
}

/** Radians by which the channels d and d + headDim / 2 are turned at a position. */
function angle(position: number, d: number, headDim: number): number {
  return position * 10000 ** ((-2 * d) / headDim);
}

/** The nodes and constants of a graph that is being written. */
export class GraphWriter {
  readonly nodes: NodeProto[] = [];
  readonly constants: TensorProto[] = [];
  readonly #prefix: string;
  #names = 0;

  /** @param prefix of the names that it gives */
  constructor(prefix: string = 't') {
    this.#prefix = prefix;
  }

  name(): string {
    return `${this.#prefix}${this.#names++}`;
  }

  /** Adds a node and returns its first output. */
  node(
    opType: string,
    input: string[],
    attributes: Readonly<Record<string, number | readonly number[]>> = {},
    output: string | readonly [string, ...string[]] = this.name(),
    domain: string = '',
  ): string {
    const outputs = typeof output === 'string' ? [output] : [...output];
    const attribute = Object.entries(attributes).map(([name, value]) => toAttribute(name, value));
    this.nodes.push(
      create(NodeProtoSchema, { opType, domain, input, output: outputs, attribute, name: outputs[0] }),
    );
    return outputs[0];
  }

  floats(values: Float32Array<ArrayBuffer>, dims: readonly number[]): string {
    return this.#constant(DataType.FLOAT, values, dims);
  }

  ints(values: readonly number[], dims: readonly number[] = [values.length]): string {
    return this.#constant(DataType.INT64, BigInt64Array.from(values, BigInt), dims);
  }

  #constant(
    dataType: DataType,
    values: Float32Array<ArrayBuffer> | BigInt64Array<ArrayBuffer>,
    dims: readonly number[],
  ): string {
    const name = this.name();
    const rawData = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    this.constants.push(create(TensorProtoSchema, { name, dataType, dims: dims.map(BigInt), rawData }));
    return name;
  }
}

/** Whole numbers are integers, but for the two attributes that ONNX wants as floats. */
function toAttribute(name: string, value: number | readonly number[]): AttributeProto {
  if (typeof value !== 'number')
    return create(AttributeProtoSchema, { name, type: AttributeType.INTS, ints: value.map(BigInt) });
  return name === 'epsilon' || name === 'scale'
    ? create(AttributeProtoSchema, { name, type: AttributeType.FLOAT, f: value })
    : create(AttributeProtoSchema, { name, type: AttributeType.INT, i: BigInt(value) });
}

/** The description of an input or output. */
export function info(name: string, elemType: DataType, shape: readonly (number | string)[]): ValueInfoProto {
  const dim = shape.map((size) => ({
    value:
      typeof size === 'number'
        ? ({ case: 'dimValue', value: BigInt(size) } as const)
        : ({ case: 'dimParam', value: size } as const),
  }));
  return create(ValueInfoProtoSchema, {
    name,
    type: { value: { case: 'tensorType', value: { elemType, shape: { dim } } } },
  });
}
