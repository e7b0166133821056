import { create, type MessageInitShape } from '@bufbuild/protobuf';
import {
  AttributeProto_AttributeType as AttributeType,
  AttributeProtoSchema,
  GraphProtoSchema,
  NodeProtoSchema,
  TensorProto_DataType as DataType,
  TensorProtoSchema,
  ValueInfoProtoSchema,
  type AttributeProto,
  type GraphProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from 'onnx-buf';
import { OnnxStructureError } from './errors.js';
import { tensorShape, type GraphIndex } from './graph-index.js';
import { withGraph, type OnnxModel } from './model.js';

/** The oldest operator set whose Slice and TopK have the form used here. */
const MIN_OPSET = 11;
/** An end that Slice takes for the last. */
const END = 2 ** 31 - 1;

type Attributes = Readonly<Record<string, number | readonly number[]>>;

/**
 * Adds nodes, constants and outputs behind a graph. Every method that adds a node returns the name of the
 * tensor it makes. Axes that an operator takes as attribute or input, depending on the version, are written
 * as the model's version wants.
 */
export class GraphEditor {
  readonly index: GraphIndex;
  readonly #opset: number;
  readonly #names = new Set<string>();
  readonly #nodes: NodeProto[] = [];
  readonly #initializers: TensorProto[] = [];
  readonly #ints = new Map<string, string>();
  readonly #outputs: ValueInfoProto[] = [];
  readonly #stated: ValueInfoProto[] = [];

  /** @throws OnnxStructureError where the model's operator set is too old to be extended */
  constructor(index: GraphIndex) {
    const { file, graph } = index.model;
    this.index = index;
    this.#opset = index.opset('');
    if (this.#opset < MIN_OPSET) {
      const found = `ai.onnx version ${this.#opset}`;
      throw new OnnxStructureError(
        file,
        `ai.onnx version ${MIN_OPSET} or later`,
        found,
        'Export the model again.',
      );
    }
    for (const { name } of [...graph.input, ...graph.output, ...graph.initializer]) this.#names.add(name);
    for (const { name, input, output } of graph.node)
      for (const used of [name, ...input, ...output]) this.#names.add(used);
  }

  /** A constant of float32; a scalar unless `dims` says otherwise. */
  float(values: readonly number[], dims: readonly number[] = []): string {
    return this.#constant({ dataType: DataType.FLOAT, dims: dims.map(BigInt), floatData: [...values] });
  }

  /** A constant vector of int64; the same for the same numbers. */
  ints(values: readonly number[]): string {
    const known = this.#ints.get(values.join());
    if (known !== undefined) return known;
    const dims = [BigInt(values.length)];
    const made = this.#constant({ dataType: DataType.INT64, dims, int64Data: values.map(BigInt) });
    this.#ints.set(values.join(), made);
    return made;
  }

  /**
   * Adds a node of the ai.onnx domain and returns its first output. Attributes are integers, or lists of
   * them.
   */
  add(opType: string, input: string[], attributes: Attributes = {}): string {
    return this.#node(opType, input, [this.name(opType)], attributes);
  }

  /** Adds a node that has been made elsewhere, with the names it has. */
  append(node: NodeProto): void {
    this.#nodes.push(node);
  }

  /**
   * States of a tensor what the graph states of another one, but for its sizes: type and number of
   * dimensions.
   */
  stateAs(tensor: string, original: string): void {
    const info = this.index.valueInfo(original);
    const type = info?.type?.value;
    const shape = tensorShape(info);
    if (type?.case !== 'tensorType' || shape === null) return;
    this.state(tensor, type.value.elemType, shape.length);
  }

  /** States type and number of dimensions of a tensor. */
  state(tensor: string, elemType: number, rank: number): void {
    const free = Array.from({ length: rank }, (_, axis) => `${tensor}_${axis}`);
    this.#stated.push(valueInfo(tensor, elemType, free));
  }

  /** A reduction over one axis, which disappears. */
  reduce(
    opType: 'ReduceL1' | 'ReduceL2' | 'ReduceMax' | 'ReduceMean' | 'ReduceSum',
    x: string,
    axis: number,
  ): string {
    const axesAreInput = this.#opset >= (opType === 'ReduceSum' ? 13 : 18);
    if (axesAreInput) return this.add(opType, [x, this.ints([axis])], { keepdims: 0 });
    return this.add(opType, [x], { axes: [axis], keepdims: 0 });
  }

  /** `x` without an axis of length 1. */
  squeeze(x: string, axis: number): string {
    return this.#withAxis('Squeeze', x, axis);
  }

  /** `x` with a further axis of length 1. */
  unsqueeze(x: string, axis: number): string {
    return this.#withAxis('Unsqueeze', x, axis);
  }

  #withAxis(opType: 'Squeeze' | 'Unsqueeze', x: string, axis: number): string {
    if (this.#opset >= 13) return this.add(opType, [x, this.ints([axis])]);
    return this.add(opType, [x], { axes: [axis] });
  }

  /** Every other entry of `x` along its first axis, from `start` to `end`, a vector of one int64. */
  everyOther(x: string, start: number, end: string = this.ints([END])): string {
    return this.add('Slice', [x, this.ints([start]), end, this.ints([0]), this.ints([2])]);
  }

  /** What of `x` is before and behind `at`, a vector of one int64, along the first axis. */
  parted(x: string, at: string): readonly [string, string] {
    const axis = this.ints([0]);
    return [
      this.add('Slice', [x, this.ints([0]), at, axis]),
      this.add('Slice', [x, at, this.ints([END]), axis]),
    ];
  }

  /** `x[..., start:end, ...]` along one axis; without `end`, to the end. */
  slice(x: string, axis: number, start: number, end: number = END): string {
    return this.add('Slice', [x, this.ints([start]), this.ints([end]), this.ints([axis])]);
  }

  /** `x` with these dimensions: 0 keeps, -1 is what remains. */
  reshape(x: string, dims: readonly number[]): string {
    return this.add('Reshape', [x, this.ints(dims)]);
  }

  /** `x` with its axes in this order. */
  transpose(x: string, perm: readonly number[]): string {
    return this.add('Transpose', [x], { perm });
  }

  /** Length of one axis of `x` as a vector of one int64. */
  length(x: string, axis: number): string {
    return this.slice(this.add('Shape', [x]), 0, axis, axis === -1 ? undefined : axis + 1);
  }

  /** Softmax over the last axis. */
  softmax(x: string): string {
    return this.add('Softmax', [x], { axis: -1 });
  }

  /** The `k` largest values along the last axis, `k` a vector of one int64; of equal ones the first. */
  topK(x: string, k: string): { readonly values: string; readonly indices: string } {
    const indices = this.name('TopK');
    return { values: this.#node('TopK', [x, k], [this.name('TopK'), indices], { axis: -1 }), indices };
  }

  /** The last `count` entries of `x` along one axis, `count` a vector of one int64. */
  last(x: string, axis: number, count: string): string {
    const end = this.ints([END]);
    return this.add('Slice', [x, this.add('Neg', [count]), end, this.ints([axis])]);
  }

  /** The integers from `start` up to but not including `end`, both vectors of one int64. */
  range(start: string, end: string): string {
    const scalar = (x: string): string => this.reshape(x, []);
    return this.add('Range', [scalar(start), scalar(end), scalar(this.ints([1]))]);
  }

  /** The smaller of two int64. Min itself takes integers from opset 12 on only. */
  smaller(a: string, b: string): string {
    return this.add('Where', [this.add('Less', [a, b]), a, b]);
  }

  /** The larger of two int64. */
  larger(a: string, b: string): string {
    return this.add('Where', [this.add('Less', [a, b]), b, a]);
  }

  /** `value` everywhere, `shape` a vector of int64. */
  fill(value: number, shape: string): string {
    return this.add('Expand', [this.ints([value]), shape]);
  }

  /** `x` in float32. */
  toFloat32(x: string): string {
    return this.add('Cast', [x], { to: DataType.FLOAT });
  }

  /**
   * Makes a tensor a graph output, of float32 unless `to` says otherwise; `shape` has a name for each free
   * dimension.
   */
  output(
    name: string,
    x: string,
    shape: readonly (string | number)[],
    to: DataType.FLOAT | DataType.INT64 = DataType.FLOAT,
  ): string {
    const output = this.#node('Cast', [x], [this.name(name)], { to });
    this.#outputs.push(valueInfo(output, to, shape));
    return output;
  }

  /** The model with everything that was added; the original is not changed. */
  build(): OnnxModel {
    const { model } = this.index;
    return withGraph(
      model,
      copyGraph(model.graph, {
        node: [...model.graph.node, ...this.#nodes],
        initializer: [...model.graph.initializer, ...this.#initializers],
        output: [...model.graph.output, ...this.#outputs],
        valueInfo: [...model.graph.valueInfo, ...this.#stated],
      }),
    );
  }

  #node(opType: string, input: string[], output: [string, ...string[]], attributes: Attributes): string {
    const attribute = Object.entries(attributes).map(([name, value]) => intAttribute(name, value));
    this.#nodes.push(create(NodeProtoSchema, { name: output[0], opType, input, output, attribute }));
    return output[0];
  }

  #constant(tensor: MessageInitShape<typeof TensorProtoSchema>): string {
    const name = this.name('constant');
    this.#initializers.push(create(TensorProtoSchema, { ...tensor, name }));
    return name;
  }

  /** A name that nothing in the graph has. */
  name(hint: string): string {
    let name = `foveate/${hint}`;
    for (let i = 1; this.#names.has(name); i++) name = `foveate/${hint}_${i}`;
    this.#names.add(name);
    return name;
  }
}

/** A node with some of its fields replaced. */
export function copyNode(
  node: NodeProto,
  changes: Partial<Omit<NodeProto, '$typeName' | '$unknown'>>,
): NodeProto {
  return Object.assign(create(NodeProtoSchema), node, changes); // spreading would lose the defaults, which a prototype holds
}

/** A graph with some of its lists replaced, the others shared. */
export function copyGraph(
  graph: GraphProto,
  changes: Partial<Omit<GraphProto, '$typeName' | '$unknown'>>,
): GraphProto {
  return Object.assign(create(GraphProtoSchema), graph, changes);
}

/** The description of an input or output. */
export function valueInfo(
  name: string,
  elemType: number,
  shape: readonly (string | number)[],
): ValueInfoProto {
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

/** An attribute of one integer, or of a list of them. */
export function intAttribute(name: string, value: number | readonly number[]): AttributeProto {
  return typeof value === 'number'
    ? create(AttributeProtoSchema, { name, type: AttributeType.INT, i: BigInt(value) })
    : create(AttributeProtoSchema, { name, type: AttributeType.INTS, ints: value.map(BigInt) });
}
