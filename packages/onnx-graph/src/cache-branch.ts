/**
 * Decoders that Optimum merged: their layers lie in both branches of an If, once for an empty cache and once
 * for a filled one, and an input chooses between them.
 */
import { create } from '@bufbuild/protobuf';
import {
  AttributeProtoSchema,
  NodeProtoSchema,
  SparseTensorProtoSchema,
  type AttributeProto,
  type GraphProto,
  type NodeProto,
  type SparseTensorProto,
  type TensorProto,
  type ValueInfoProto,
} from 'onnx-buf';
import { copyGraph, copyNode } from './graph-editor.js';
import { allInputs, attribute } from './graph-index.js';
import { withGraph, type OnnxModel } from './model.js';

/** Input: whether the branch for a filled cache runs. */
const FLAG = 'use_cache_branch';

type Rename = (name: string) => string;

/**
 * The model with the branch for a filled cache in place of the If, and without the input that chose it; the
 * model itself where it has no such If. An empty cache is one of length 0 to that branch.
 */
export function withCacheBranch(model: OnnxModel): OnnxModel {
  const { graph } = model;
  const node = graph.node.find(({ opType, input }) => opType === 'If' && input[0] === FLAG);
  const branch = node && attribute(node, 'then_branch')?.g;
  if (!branch) return model;
  return withCacheBranch(withGraph(model, inlined(graph, node, branch)));
}

/** The graph with a branch in place of the If that it belongs to. */
function inlined(graph: GraphProto, node: NodeProto, branch: GraphProto): GraphProto {
  const { rename, made } = newNames(graph, node, branch);
  const inner = [...branch.node.map((one) => renamed(one, rename)), ...made];
  const nodes = graph.node.flatMap((one) => (one === node ? inner : [one]));
  const stated = new Set([...graph.valueInfo, ...graph.output].map(({ name }) => name));
  const infos = [...branch.valueInfo, ...branch.output]
    .map((info) => withName(info, rename(info.name)))
    .filter(({ name }) => !stated.has(name) && stated.add(name));
  const isRead = nodes.some((one) => allInputs(one).includes(FLAG));
  return copyGraph(graph, {
    node: nodes,
    input: isRead ? graph.input : graph.input.filter(({ name }) => name !== FLAG),
    initializer: [...graph.initializer, ...branch.initializer.map((one) => withName(one, rename(one.name)))],
    sparseInitializer: [
      ...graph.sparseInitializer,
      ...branch.sparseInitializer.map((one) => renamedSparse(one, rename)),
    ],
    valueInfo: [...graph.valueInfo, ...infos],
  });
}

/**
 * What the tensors of a branch are called outside: those that it puts out as the If does, the others as
 * inside unless something outside has that name. What cannot be called so, because it lies outside itself, is
 * a constant or is put out twice, is copied (`made`).
 */
function newNames(
  graph: GraphProto,
  node: NodeProto,
  branch: GraphProto,
): { rename: Rename; made: NodeProto[] } {
  const inner = branch.node.flatMap(({ output }) => output);
  const names = new Map<string, string>([['', '']]);
  const copied: { from: string; to: string }[] = [];
  for (const [i, { name }] of branch.output.entries()) {
    const to = node.output[i];
    if (!to) continue;
    if (inner.includes(name) && !names.has(name)) names.set(name, to);
    else copied.push({ from: name, to });
  }
  const outside = tensorsOf(graph);
  const taken = new Set([...outside, ...tensorsOf(branch)]);
  for (const name of tensorsOf(branch)) {
    if (names.has(name)) continue;
    let own = name;
    if (outside.has(name)) for (let n = 1; taken.has(own); n++) own = `${name}_branch_${n}`;
    names.set(name, own);
    taken.add(own);
  }
  const rename: Rename = (name) => names.get(name) ?? name;
  const made = copied.map(({ from, to }) =>
    create(NodeProtoSchema, { name: to, opType: 'Identity', input: [rename(from)], output: [to] }),
  );
  return { rename, made };
}

/** Names of the tensors that a graph is given, holds and makes. */
function tensorsOf({ input, initializer, sparseInitializer, node }: GraphProto): Set<string> {
  return new Set([
    ...[...input, ...initializer].map(({ name }) => name),
    ...sparseInitializer.map(({ values }) => values?.name ?? ''),
    ...node.flatMap(({ output }) => output),
  ]);
}

function renamed(node: NodeProto, rename: Rename): NodeProto {
  return copyNode(node, {
    input: node.input.map(rename),
    output: node.output.map(rename),
    attribute: node.attribute.map((one) => renamedAttribute(one, rename)),
  });
}

/** An attribute whose subgraphs, if any, read what was renamed outside them. */
function renamedAttribute(one: AttributeProto, rename: Rename): AttributeProto {
  if (!one.g && one.graphs.length === 0) return one;
  return Object.assign(create(AttributeProtoSchema), one, {
    ...(one.g && { g: renamedSubgraph(one.g, rename) }),
    graphs: one.graphs.map((graph) => renamedSubgraph(graph, rename)),
  });
}

function renamedSubgraph(graph: GraphProto, rename: Rename): GraphProto {
  const inner = tensorsOf(graph);
  const outer: Rename = (name) => (inner.has(name) ? name : rename(name));
  return copyGraph(graph, {
    node: graph.node.map((node) => renamed(node, outer)),
    output: graph.output.map((info) => withName(info, outer(info.name))),
  });
}

function renamedSparse(one: SparseTensorProto, rename: Rename): SparseTensorProto {
  if (!one.values) return one;
  const values = withName(one.values, rename(one.values.name));
  return Object.assign(create(SparseTensorProtoSchema), one, { values });
}

/** A copy that keeps the defaults, which a message's prototype holds. */
function withName<T extends TensorProto | ValueInfoProto>(message: T, name: string): T {
  return Object.assign(Object.create(Object.getPrototypeOf(message) as object) as T, message, { name });
}
