/** The two parts of a decoder: the layers before one, and those from it on, over other tokens. */
import { create } from '@bufbuild/protobuf';
import { NodeProtoSchema, type GraphProto, type NodeProto, type ValueInfoProto } from 'onnx-buf';
import {
  EMBEDDINGS,
  MASK,
  pastName,
  POSITIONS,
  presentName,
  rotatesItself,
  type DecoderNodes,
} from './decoder.js';
import { OnnxArgumentError, OnnxStructureError } from './errors.js';
import { copyGraph, valueInfo, type GraphEditor } from './graph-editor.js';
import { allInputs, describeNode, SHAPE_READERS, tensorShape } from './graph-index.js';
import { appendRotated, checkGroupQuery } from './group-query.js';
import { withGraph, type OnnxModel } from './model.js';

/** What the upper layers read in place of what the whole decoder reads; S' tokens, P' of them cached before. */
export interface UpperInputs {
  /** In place of the tensors that enter the first of the layers, in their order. [1, S', D] each */
  readonly hidden: readonly string[];
  /** [1, P' + S'] */
  readonly mask: string;
  /** The tokens' own positions, gaps included. [1, S'] */
  readonly positions: string;
}

/** @throws OnnxArgumentError unless there are layers before and behind the cut */
export function checkLayer(layer: number, { layers }: DecoderNodes): void {
  if (Number.isInteger(layer) && layer >= 1 && layer < layers.length) return;
  throw new OnnxArgumentError('layer', layer, `a whole number from 1 to ${layers.length - 1}`);
}

/** Names of the caches, inputs and outputs alike, of the layers from `first` up to but not including `end`. */
export function cacheNames(first: number, end: number): ReadonlySet<string> {
  const names = new Set<string>();
  for (let i = first; i < end; i++) {
    for (const part of ['key', 'value'] as const) names.add(pastName(i, part)).add(presentName(i, part));
  }
  return names;
}

/** The outputs that the layers before `layer` make: their caches. */
function lowerOutputs({ index }: DecoderNodes, layer: number): string[] {
  const caches = cacheNames(0, layer);
  return index.model.graph.output.map(({ name }) => name).filter((name) => caches.has(name));
}

/** The outputs that the layers from `layer` on make, and what is behind them: their caches and the logits. */
export function upperOutputs({ index }: DecoderNodes, layer: number): ValueInfoProto[] {
  const lower = cacheNames(0, layer);
  return index.model.graph.output.filter(({ name }) => !lower.has(name));
}

/**
 * The nodes that the caches of the layers before `layer` need, and the tensors in `wanted`. Exporters take the number of
 * cached tokens from any layer's cache; these take it from layer 0's.
 */
export function lowerNodes(decoder: DecoderNodes, layer: number, wanted: readonly string[]): NodeProto[] {
  const { index, layers } = decoder;
  const first = new Map<string, string>();
  for (const part of ['key', 'value'] as const) {
    for (let i = layer; i < layers.length; i++) first.set(pastName(i, part), pastName(0, part));
  }
  return index.ancestors([...wanted, ...lowerOutputs(decoder, layer)]).map((node) => {
    if (!node.input.some((name) => first.has(name))) return node;
    return create(NodeProtoSchema, { ...node, input: node.input.map((name) => first.get(name) ?? name) });
  });
}

/**
 * Appends the layers from `layer` on and the head, reading `inputs`, and writing the outputs they write in the original. What
 * the original computes once for all layers from masks, positions and lengths is computed anew for these.
 *
 * @throws OnnxStructureError where they read values of the earlier layers other than the hidden state
 */
export function appendUpperLayers(
  editor: GraphEditor,
  decoder: DecoderNodes,
  layer: number,
  inputs: UpperInputs,
): void {
  const { index } = decoder;
  const entry = decoder.layers[layer]?.entry ?? [];
  const outputs = upperOutputs(decoder, layer).map(({ name }) => name);
  checkValues(decoder, layer, outputs);
  const names = new Map<string, string>([
    ['', ''],
    [EMBEDDINGS, inputs.hidden[0] ?? ''], // for its lengths
    [MASK, inputs.mask],
    [POSITIONS, inputs.positions],
    ...entry.map((name, i): [string, string] => [name, inputs.hidden[i] ?? '']),
    ...outputs.map((name): [string, string] => [name, name]),
  ]);
  for (const part of ['key', 'value'] as const) {
    for (let i = 0; i < layer; i++) names.set(pastName(i, part), pastName(layer, part)); // for their lengths
  }
  for (const node of index.ancestors(outputs, new Set(entry))) {
    for (const output of node.output) if (!names.has(output)) names.set(output, editor.name(output));
    const input = node.input.map((name) => names.get(name) ?? name);
    const output = node.output.map((name) => names.get(name) ?? name);
    appendNode(editor, decoder, node, input, output, inputs.positions);
  }
}

function appendNode(
  editor: GraphEditor,
  decoder: DecoderNodes,
  node: NodeProto,
  input: string[],
  output: string[],
  positions: string,
): void {
  const at = decoder.attentions.findIndex(
    (attention) => attention.form !== 'softmax' && attention.node === node,
  );
  if (at >= 0) checkGroupQuery(editor, node);
  if (at >= 0 && rotatesItself(node))
    appendRotated(editor, node, decoder.layers[at], input, output, positions);
  else editor.append(create(NodeProtoSchema, { ...node, name: editor.name(node.opType), input, output }));
}

/** Of the embeddings and of the caches below, the upper layers may read the lengths and nothing else. */
function checkValues({ index, layers }: DecoderNodes, layer: number, outputs: readonly string[]): void {
  const entry = new Set(layers[layer]?.entry);
  const forbidden = new Set([EMBEDDINGS]);
  for (let i = 0; i < layer; i++) forbidden.add(pastName(i, 'key')).add(pastName(i, 'value'));
  const wanted = new Set(outputs);
  const refuse = (node: NodeProto, found: string): never => {
    throw new OnnxStructureError(
      index.model.file,
      `a cut before layer ${layer} that only the hidden state goes through`,
      `${describeNode(node)} behind it, ${found}`,
      'Choose another layer; decoders whose layers share more than the hidden state are not supported.',
    );
  };
  for (const node of index.ancestors(outputs, entry).reverse()) {
    if (allInputs(node).length > node.input.filter((name) => name !== '').length) {
      refuse(node, 'whose subgraph reads tensors from outside');
    }
    if (SHAPE_READERS.has(node.opType) || !node.output.some((name) => wanted.has(name) && !entry.has(name)))
      continue;
    for (const name of node.input) {
      if (forbidden.has(name)) refuse(node, `which reads the values of "${name}"`);
      wanted.add(name);
    }
  }
}

/** The description of a cache or of the logits for other numbers of tokens than the lower layers run. */
export function withOwnLengths(info: ValueInfoProto): ValueInfoProto {
  const type = info.type?.value;
  const shape = tensorShape(info);
  if (type?.case !== 'tensorType' || shape === null) return info;
  // Where names of dimensions are equal, onnxruntime may reuse one tensor's memory for the other.
  const own = shape.map((size, axis) =>
    axis > 0 && typeof size !== 'number' ? `kept_${size ?? `${info.name}_${axis}`}` : (size ?? 'batch_size'),
  );
  return valueInfo(info.name, type.value.elemType, own);
}

/** The model with another graph's nodes, inputs and outputs, and of its constants those that are read. */
export function withNodes(
  model: OnnxModel,
  graph: Pick<GraphProto, 'node' | 'input' | 'output' | 'initializer'>,
): OnnxModel {
  const { node, input, output } = graph;
  const read = new Set([...node.flatMap(allInputs), ...output.map(({ name }) => name)]);
  const initializer = graph.initializer.filter(({ name }) => read.has(name));
  const made = new Set(node.flatMap((one) => one.output));
  const stated = model.graph.valueInfo.filter(({ name }) => made.has(name));
  return withGraph(model, copyGraph(model.graph, { node, input, output, initializer, valueInfo: stated }));
}

/** The nodes of a graph that the model's own has not, and the tensors that these read from elsewhere. */
export function addedNodes(
  { graph: { node: original } }: OnnxModel,
  { node }: GraphProto,
): { added: NodeProto[]; read: string[] } {
  const own = new Set(original);
  const added = node.filter((one) => !own.has(one));
  const made = new Set(added.flatMap(({ output }) => output));
  return { added, read: added.flatMap(allInputs).filter((name) => !made.has(name)) };
}
