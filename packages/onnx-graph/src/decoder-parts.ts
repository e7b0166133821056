/** The two parts of a decoder: the layers before one, and those from it on, over other tokens. */
import type { NodeProto, ValueInfoProto } from 'onnx-buf';
import { pastName, presentName, rotatesItself, type DecoderLayer, type DecoderNodes } from './decoder.js';
import { OnnxArgumentError, OnnxStructureError } from './errors.js';
import { copyNode, valueInfo, type GraphEditor } from './graph-editor.js';
import { allInputs, describeNode, SHAPE_READERS, tensorShape } from './graph-index.js';
import { appendRotated, checkGroupQuery } from './group-query.js';

/** What the upper layers read in place of what their stretch reads; S' tokens, P' of them cached before. */
export interface UpperInputs {
  /** In place of the tensors that enter the first of the layers, in their order. [1, S', D] each */
  readonly hidden: readonly string[];
  /** [1, P' + S'] */
  readonly mask: string;
  /** The tokens' own positions, gaps included. [1, S'], or [3, 1, S'] where they have three dimensions. */
  readonly positions: string;
}

/** @throws OnnxArgumentError unless there are layers of the stretch before and behind the cut */
export function checkLayer(name: string, layer: number, { stretch: { first }, end }: DecoderNodes): void {
  if (Number.isInteger(layer) && layer > first && layer < end) return;
  throw new OnnxArgumentError(name, layer, `a whole number from ${first + 1} to ${end - 1}`);
}

/**
 * Names of the caches, inputs and outputs alike, of the layers from `first` up to but not including `end`.
 */
export function cacheNames(first: number, end: number): ReadonlySet<string> {
  const names = new Set<string>();
  for (let i = first; i < end; i++) {
    for (const part of ['key', 'value'] as const) names.add(pastName(i, part)).add(presentName(i, part));
  }
  return names;
}

/** The outputs that the layers before `layer` make: their caches, and what earlier stretches put out. */
function lowerOutputs(decoder: DecoderNodes, layer: number): string[] {
  const upper = new Set(upperOutputs(decoder, layer));
  return decoder.index.model.graph.output.filter((info) => !upper.has(info)).map(({ name }) => name);
}

/** The outputs that the layers from `layer` on make, and what is behind them: their caches and the logits. */
export function upperOutputs({ index, stretch }: DecoderNodes, layer: number): ValueInfoProto[] {
  const lower = cacheNames(0, layer);
  return index.model.graph.output.filter(({ name }) => !lower.has(name) && !stretch.earlier.has(name));
}

/**
 * The nodes that the outputs of the layers before `layer` need, and the tensors in `wanted`. Exporters take
 * the number of cached tokens from any layer's cache; these take it from that of the stretch's first layer.
 */
export function lowerNodes(decoder: DecoderNodes, layer: number, wanted: readonly string[]): NodeProto[] {
  const { index, stretch, end } = decoder;
  const first = new Map<string, string>();
  for (const part of ['key', 'value'] as const) {
    for (let i = layer; i < end; i++) first.set(pastName(i, part), pastName(stretch.first, part));
  }
  return index.ancestors([...wanted, ...lowerOutputs(decoder, layer)]).map((node) => {
    if (!node.input.some((name) => first.has(name))) return node;
    return copyNode(node, { input: node.input.map((name) => first.get(name) ?? name) });
  });
}

/**
 * Appends the layers from `layer` on and the head, reading `inputs`, and writing the outputs they write in
 * the original. What the original computes once for all layers from masks, positions and lengths is computed
 * anew for these.
 *
 * @throws OnnxStructureError where they read values of the earlier layers other than the hidden state
 */
export function appendUpperLayers(
  editor: GraphEditor,
  decoder: DecoderNodes,
  layer: number,
  inputs: UpperInputs,
): void {
  const { index, stretch } = decoder;
  const entry = entryOf(decoder, layer);
  const outputs = upperOutputs(decoder, layer).map(({ name }) => name);
  checkValues(decoder, layer, outputs);
  const names = new Map<string, string>([
    ['', ''],
    ...stretch.hidden.map((name): [string, string] => [name, inputs.hidden[0]]), // for its lengths
    [stretch.mask, inputs.mask],
    ...(stretch.positions === null ? [] : [[stretch.positions, inputs.positions] as const]),
    ...entry.map((name, i): [string, string] => [name, inputs.hidden[i] ?? '']),
    ...outputs.map((name): [string, string] => [name, name]),
  ]);
  for (const part of ['key', 'value'] as const) {
    for (let i = stretch.first; i < layer; i++) names.set(pastName(i, part), pastName(layer, part)); // for their lengths
  }
  for (const node of index.ancestors(outputs, givenTensors(decoder, layer))) {
    for (const output of node.output.filter((name) => !names.has(name))) {
      names.set(output, editor.name(output));
      editor.stateAs(names.get(output) ?? '', output);
    }
    const input = node.input.map((name) => names.get(name) ?? name);
    const output = node.output.map((name) => names.get(name) ?? name);
    appendNode(editor, decoder, node, input, output, inputs.positions);
  }
}

/** The tensors that carry the hidden state into a layer. */
export function entryOf({ layers }: DecoderNodes, layer: number): readonly string[] {
  return layers.get(layer)?.entry ?? [];
}

/** What stands for the layers before one: nothing upstream of it is computed anew. */
function givenTensors(decoder: DecoderNodes, layer: number): ReadonlySet<string> {
  const { hidden, mask, positions } = decoder.stretch;
  const given = new Set([...entryOf(decoder, layer), ...hidden, mask]);
  return positions === null ? given : given.add(positions);
}

/** The layer whose attention is this fused node. */
function groupQueryLayer({ attentions, layers }: DecoderNodes, node: NodeProto): DecoderLayer | undefined {
  for (const [layer, attention] of attentions) {
    if (attention.form === 'com.microsoft.GroupQueryAttention' && attention.node === node)
      return layers.get(layer);
  }
  return undefined;
}

function appendNode(
  editor: GraphEditor,
  decoder: DecoderNodes,
  node: NodeProto,
  input: string[],
  output: string[],
  positions: string,
): void {
  const layer = groupQueryLayer(decoder, node);
  if (layer) checkGroupQuery(editor, node);
  if (layer && rotatesItself(node)) appendRotated(editor, node, layer, input, output, positions);
  else editor.append(copyNode(node, { name: editor.name(node.opType), input, output }));
}

/**
 * Of the stretch's hidden state and of the caches below, the upper layers may read the lengths and nothing
 * else.
 */
function checkValues(decoder: DecoderNodes, layer: number, outputs: readonly string[]): void {
  const { index, stretch } = decoder;
  const entry = new Set(entryOf(decoder, layer));
  const forbidden = new Set(stretch.hidden);
  for (let i = stretch.first; i < layer; i++) forbidden.add(pastName(i, 'key')).add(pastName(i, 'value'));
  const wanted = new Set(outputs);
  const refuse = (node: NodeProto, found: string): never => {
    throw new OnnxStructureError(
      index.model.file,
      `a cut before layer ${layer} that only the hidden state goes through`,
      `${describeNode(node)} behind it, ${found}`,
      'Choose another layer; decoders whose layers share more than the hidden state are not supported.',
    );
  };
  for (const node of index.ancestors(outputs, givenTensors(decoder, layer)).reverse()) {
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
export function withOwnLengths(info: ValueInfoProto, layer: number): ValueInfoProto {
  const type = info.type?.value;
  const shape = tensorShape(info);
  if (type?.case !== 'tensorType' || shape === null) return info;
  // Where names of dimensions are equal, onnxruntime may reuse one tensor's memory for the other.
  const own = shape.map((size, axis) =>
    axis > 0 && typeof size !== 'number'
      ? `kept_${layer}_${size ?? `${info.name}_${axis}`}`
      : (size ?? 'batch_size'),
  );
  return valueInfo(info.name, type.value.elemType, own);
}
