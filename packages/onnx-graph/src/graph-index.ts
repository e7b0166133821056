import {
  TensorProto_DataType as DataType,
  type AttributeProto,
  type GraphProto,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from 'onnx-buf';
import { OnnxFileError } from './errors.js';
import type { OnnxModel } from './model.js';
import { tensorValues } from './tensor.js';

/** Operators that read a tensor's shape and not its values. */
export const SHAPE_READERS: ReadonlySet<string> = new Set(['Shape', 'Size']);

/** Element types that are floats. */
export const FLOATS: ReadonlySet<number> = new Set([
  DataType.FLOAT,
  DataType.FLOAT16,
  DataType.BFLOAT16,
  DataType.DOUBLE,
]);

/** Operators whose first output has neither the type of their first operand nor one they state. */
const CHANGES_TYPE =
  /Integer|^Quantize|^DynamicQuantize|^(Shape|Size|Is.*|Not|Equal|Greater|Less|Constant.*)$/;

/**
 * Who makes and who reads each tensor of a graph, and what is known of a tensor without running the graph.
 */
export class GraphIndex {
  readonly model: OnnxModel;
  /** The nodes, each behind those it reads from. */
  readonly nodes: readonly NodeProto[];
  /**
   * Graph inputs that a caller has to feed: without those that are initializers (as IR version 3 lists them).
   */
  readonly inputs: readonly ValueInfoProto[];
  readonly #producers = new Map<string, NodeProto>();
  readonly #consumers = new Map<string, NodeProto[]>();
  readonly #initializers: ReadonlyMap<string, TensorProto>;
  readonly #valueInfos = new Map<string, ValueInfoProto>();
  readonly #ranks = new Map<string, number | undefined>();
  readonly #lastDimensions = new Map<string, number | undefined>();
  #inferring = 0;

  /** @throws OnnxFileError where nodes read what nothing makes, or a tensor is made twice */
  constructor(model: OnnxModel) {
    const { graph } = model;
    this.model = model;
    this.#initializers = new Map(graph.initializer.map((tensor) => [tensor.name, tensor]));
    this.inputs = graph.input.filter((input) => !this.#initializers.has(input.name));
    for (const info of [...graph.valueInfo, ...graph.input, ...graph.output])
      this.#valueInfos.set(info.name, info);
    const given = [...graph.input.map(({ name }) => name), ...this.#initializers.keys()];
    this.nodes = inOrder(model, [
      ...given,
      ...graph.sparseInitializer.map(({ values }) => values?.name ?? ''),
    ]);
    for (const node of this.nodes) {
      for (const output of node.output) this.#producers.set(output, node);
      for (const input of allInputs(node)) {
        const consumers = this.#consumers.get(input);
        if (consumers) consumers.push(node);
        else this.#consumers.set(input, [node]);
      }
    }
  }

  /** Version of an operator set; 0 where it is not imported. */
  opset(domain: string): number {
    const same = (other: string): boolean => (other || 'ai.onnx') === (domain || 'ai.onnx');
    return Number(this.model.proto.opsetImport.find((opset) => same(opset.domain))?.version ?? 0);
  }

  /** The node that makes a tensor; undefined for graph inputs and initializers. */
  producer(tensor: string | undefined): NodeProto | undefined {
    return tensor === undefined ? undefined : this.#producers.get(tensor);
  }

  /** The nodes that read a tensor. */
  consumers(tensor: string): readonly NodeProto[] {
    return this.#consumers.get(tensor) ?? [];
  }

  /** The initializer of that name. */
  initializer(tensor: string | undefined): TensorProto | undefined {
    return tensor === undefined ? undefined : this.#initializers.get(tensor);
  }

  /** What the graph states about a tensor. */
  valueInfo(tensor: string): ValueInfoProto | undefined {
    return this.#valueInfos.get(tensor);
  }

  /** The values of a small constant: an initializer or Constant, also through Identity and Cast. */
  values(tensor: string | undefined): readonly number[] | undefined {
    let source = tensor;
    let node = this.producer(source);
    while (node?.opType === 'Identity' || node?.opType === 'Cast') {
      source = node.input[0];
      node = this.producer(source);
    }
    const initializer = this.initializer(source);
    if (initializer) return tensorValues(initializer);
    if (node?.opType !== 'Constant') return undefined;
    const value = node.attribute.at(0);
    if (value === undefined) return undefined;
    switch (value.name) {
      case 'value':
        return value.t && tensorValues(value.t);
      case 'value_float':
        return [value.f];
      case 'value_int':
        return [Number(value.i)];
      case 'value_floats':
        return value.floats;
      case 'value_ints':
        return value.ints.map(Number);
      default:
        return undefined;
    }
  }

  /**
   * The tensors whose VALUES depend on those of `roots`, themselves included; the way through Shape does not
   * count.
   */
  dependents(roots: Iterable<string>): Set<string> {
    const dependent = new Set(roots);
    for (const node of this.nodes) {
      if (SHAPE_READERS.has(node.opType) || !allInputs(node).some((input) => dependent.has(input))) continue;
      for (const output of node.output) if (output !== '') dependent.add(output);
    }
    return dependent;
  }

  /** The nodes needed to compute `outputs`, in order, not going beyond the tensors in `given`. */
  ancestors(outputs: Iterable<string>, given: ReadonlySet<string> = new Set()): NodeProto[] {
    const wanted = new Set(outputs);
    const nodes: NodeProto[] = [];
    for (const node of this.nodes.toReversed()) {
      if (!node.output.some((output) => wanted.has(output) && !given.has(output))) continue;
      nodes.push(node);
      for (const input of allInputs(node)) wanted.add(input);
    }
    return nodes.reverse();
  }

  /** Number of dimensions, where the graph states it or the nodes around imply it. */
  rank(tensor: string | undefined): number | undefined {
    return this.#infer(this.#ranks, tensor, (name) => this.#inferRank(name));
  }

  /** Size of the last dimension, where the graph states it or the weights around imply it. */
  lastDimension(tensor: string | undefined): number | undefined {
    return this.#infer(this.#lastDimensions, tensor, (name) => this.#inferLastDimension(name));
  }

  /** Element type (TensorProto.DataType), where the graph states it or the nodes upstream imply it. */
  elementType(tensor: string | undefined): number | undefined {
    for (let name = tensor; name !== undefined;) {
      const initializer = this.initializer(name);
      if (initializer) return initializer.dataType;
      const type = this.valueInfo(name)?.type?.value;
      if (type?.case === 'tensorType' && type.value.elemType !== 0) return type.value.elemType;
      const node = this.producer(name);
      if (node?.opType === 'Cast') return Number(attribute(node, 'to')?.i);
      // The others give the type of their first operand, but for these.
      if (node && CHANGES_TYPE.test(node.opType)) return undefined;
      name = node?.input[node.opType === 'Where' || node.opType === 'DequantizeLinear' ? 1 : 0];
    }
    return undefined;
  }

  #inferRank(tensor: string): number | undefined {
    const initializer = this.initializer(tensor);
    if (initializer) return initializer.dims.length;
    const stated = tensorShape(this.valueInfo(tensor));
    if (stated) return stated.length;
    const node = this.producer(tensor);
    const [first, second] = node?.input ?? [];
    switch (node?.opType) {
      case undefined:
        return undefined;
      case 'Conv':
        return 4;
      case 'Transpose':
        return attribute(node, 'perm')?.ints.length ?? this.rank(first);
      case 'Reshape':
        return this.#vectorLength(second);
      case 'Gather':
        return sum(this.rank(first), this.rank(second), -1);
      case 'Add':
      case 'Sub':
      case 'Mul':
      case 'Div':
      case 'MatMul':
        return this.rank(first) ?? this.rank(second);
      case 'Where':
        return this.rank(second) ?? this.rank(node.input[2]);
      case 'Cast':
      case 'Concat':
      case 'Dropout':
      case 'FusedMatMul':
      case 'Identity':
      case 'LayerNormalization':
      case 'SkipLayerNormalization':
      case 'Slice':
      case 'Softmax':
        return this.rank(first);
      default:
        return undefined;
    }
  }

  #inferLastDimension(tensor: string): number | undefined {
    const initializer = this.initializer(tensor);
    if (initializer) return Number(initializer.dims.at(-1) ?? 1);
    const stated = tensorShape(this.valueInfo(tensor))?.at(-1);
    if (typeof stated === 'number') return stated;
    const node = this.producer(tensor);
    switch (node?.opType) {
      case 'Identity':
      case 'Cast':
        return this.lastDimension(node.input[0]);
      case 'Add':
        return (
          Math.max(this.lastDimension(node.input[0]) ?? 0, this.lastDimension(node.input[1]) ?? 0) ||
          undefined
        );
      case 'LayerNormalization':
        return this.lastDimension(node.input[1]);
      case 'MatMul':
        return this.lastDimension(node.input[1]);
      default:
        return undefined;
    }
  }

  /** Infers once for each tensor, and not from further away than any real graph needs. */
  #infer(
    known: Map<string, number | undefined>,
    tensor: string | undefined,
    infer: (name: string) => number | undefined,
  ): number | undefined {
    if (tensor === undefined || tensor === '') return undefined;
    if (known.has(tensor)) return known.get(tensor);
    if (this.#inferring >= 64) return undefined;
    this.#inferring++;
    const inferred = infer(tensor);
    this.#inferring--;
    known.set(tensor, inferred);
    return inferred;
  }

  /** Elements of a one-dimensional tensor. */
  #vectorLength(tensor: string | undefined): number | undefined {
    const values = this.values(tensor);
    if (values) return values.length;
    const initializer = this.initializer(tensor);
    if (initializer) return Number(initializer.dims[0]);
    const node = this.producer(tensor);
    if (node?.opType === 'Shape') return this.rank(node.input[0]);
    if (node?.opType !== 'Concat') return undefined;
    return sum(
      ...node.input.map((input) =>
        this.producer(input)?.opType === 'Unsqueeze' ? 1 : this.#vectorLength(input),
      ),
    );
  }
}

/** The nodes of a graph, each behind those it reads from: ONNX asks for it, but not every tool writes it. */
function inOrder({ graph, file }: OnnxModel, given: readonly string[]): NodeProto[] {
  const invalid = (problem: string): OnnxFileError =>
    new OnnxFileError(file, `has no valid graph: ${problem}. Export it again.`);
  const known = new Set(given);
  const waiting = new Map<string, NodeProto[]>();
  const sorted: NodeProto[] = [];
  for (const first of graph.node) {
    const ready = [first];
    for (let node = ready.pop(); node; node = ready.pop()) {
      const missing = allInputs(node).find((input) => !known.has(input));
      if (missing !== undefined) {
        waiting.set(missing, [...(waiting.get(missing) ?? []), node]);
        continue;
      }
      sorted.push(node);
      for (const output of node.output.filter((name) => name !== '')) {
        if (known.has(output)) throw invalid(`"${output}" is made twice`);
        known.add(output);
        ready.push(...(waiting.get(output) ?? []));
        waiting.delete(output);
      }
    }
  }
  for (const [tensor, [reader]] of waiting) {
    throw invalid(
      `${describeNode(reader)} reads "${tensor}", which nothing makes, or only what reads it in turn`,
    );
  }
  return sorted;
}

/** The attribute of that name. */
export function attribute(node: NodeProto, name: string): AttributeProto | undefined {
  return node.attribute.find((candidate) => candidate.name === name);
}

/** An operator with its domain, `ai.onnx` left out: `MatMul`, `com.microsoft.Attention`. */
export function operatorName(node: NodeProto): string {
  return node.domain === '' || node.domain === 'ai.onnx' ? node.opType : `${node.domain}.${node.opType}`;
}

/** A node for messages. */
export function describeNode(node: NodeProto): string {
  return `${operatorName(node)} "${node.name || (node.output[0] ?? '')}"`;
}

/** The stated shape: a number, the name of a free dimension or null each; null where none is stated. */
export function tensorShape(info: ValueInfoProto | undefined): (number | string | null)[] | null {
  const type = info?.type?.value;
  const shape = type?.case === 'tensorType' ? type.value.shape : undefined;
  if (!shape) return null;
  return shape.dim.map(({ value }) =>
    value.case === 'dimValue' ? Number(value.value) : (value.value ?? null),
  );
}

/** The tensors a node reads, those that its subgraphs (If, Loop, Scan) take from outside included. */
export function allInputs(node: NodeProto): string[] {
  const inputs = node.input.filter((input) => input !== '');
  for (const { g, graphs } of node.attribute) {
    for (const subgraph of g ? [g, ...graphs] : graphs) inputs.push(...outerInputs(subgraph));
  }
  return inputs;
}

function outerInputs(graph: GraphProto): string[] {
  const inner = new Set([...graph.input, ...graph.initializer].map(({ name }) => name));
  for (const node of graph.node) for (const output of node.output) inner.add(output);
  const read = [...graph.node.flatMap(allInputs), ...graph.output.map(({ name }) => name)];
  return read.filter((name) => !inner.has(name));
}

function sum(...terms: (number | undefined)[]): number | undefined {
  return terms.reduce(
    (total, term) => (total === undefined || term === undefined ? undefined : total + term),
    0,
  );
}
