/** The later layers of a vision encoder, over other tokens than the earlier ones left. */
import type { NodeProto, ValueInfoProto } from 'onnx-buf';
import { tokensOf } from './attention.js';
import { OnnxArgumentError, OnnxStructureError } from './errors.js';
import { copyNode, valueInfo, type GraphEditor } from './graph-editor.js';
import { allInputs, describeNode, tensorShape, type GraphIndex } from './graph-index.js';
import { droppedPrefix, isResidual, type LocatedEncoder, type VisionEncoder } from './vision-encoder.js';

/**
 * The tensors [B, S, D] that carry the hidden state into a layer, prefix tokens first: one, or two where the
 * node that adds the residual also normalises it.
 * @param argument how messages call the layer
 * @throws OnnxArgumentError unless there are layers before it and it is none behind the features
 * @throws OnnxStructureError where the features keep their class token
 */
export function encoderEntry(
  { encoder, index, attentions, line }: LocatedEncoder,
  layer: number,
  argument: string,
): readonly string[] {
  const last = encoder.featuresLayer;
  if (!Number.isInteger(layer) || layer < 1 || layer > last) {
    throw new OnnxArgumentError(
      argument,
      layer,
      `a whole number from 1 to ${last}, the layer that makes the features`,
    );
  }
  refuseKeptClassToken(index, encoder);
  const { node: target } = attentions[layer];
  const upstream = new Set(index.ancestors(target.output));
  const node = line.findLast((one) => one !== target && upstream.has(one));
  const readers = new Set([...upstream, target, ...index.ancestors([encoder.output])]);
  const entry = (node?.output ?? []).filter((name) => index.consumers(name).some((one) => readers.has(one)));
  if (entry.length > 0) return entry;
  throw new OnnxStructureError(
    index.model.file,
    `the hidden state that enters layer ${layer}`,
    'none that everything goes through',
    'Encoders whose layers share more than the hidden state are not supported.',
  );
}

/** @throws OnnxStructureError where the class token is among the features */
function refuseKeptClassToken(index: GraphIndex, { classToken }: VisionEncoder): void {
  if (classToken !== 'kept') return;
  throw new OnnxStructureError(
    index.model.file,
    'features of patches alone',
    'a class token among them',
    'Export the model with vision_feature_select_strategy "default".',
  );
}

/**
 * The tensors [B, S, D] between a layer's attention and its MLP, as {@link encoderEntry} has those before it:
 * what the residual connection around the attention makes.
 * @param argument how messages call the layer
 * @throws OnnxArgumentError unless it is one up to that which makes the features
 * @throws OnnxStructureError where there is no such connection
 */
export function layerMiddle(
  { encoder, index, attentions }: LocatedEncoder,
  layer: number,
  argument: string,
): readonly string[] {
  const last = encoder.featuresLayer;
  if (!Number.isInteger(layer) || layer < 0 || layer > last) {
    throw new OnnxArgumentError(
      argument,
      layer,
      `a whole number from 0 to ${last}, the layer that makes the features`,
    );
  }
  refuseKeptClassToken(index, encoder);
  const flow = index.dependents([encoder.input]);
  const behind = index.dependents(attentions[layer].result.output);
  const node = index.nodes.find((one) => {
    const joined = one.input.slice(0, 2).filter((name) => behind.has(name));
    return joined.length === 1 && isResidual(one, flow);
  });
  const middle = (node?.output ?? []).filter((name) => index.consumers(name).length > 0);
  if (middle.length > 0) return middle;
  throw new OnnxStructureError(
    index.model.file,
    `the residual connection around the attention of layer ${layer}`,
    'none',
    'Encoders without residual connections are not supported.',
  );
}

/** The outputs that depend on what enters a layer, and those that do not. */
export function outputsAround(
  index: GraphIndex,
  entry: readonly string[],
): { earlier: ValueInfoProto[]; later: ValueInfoProto[] } {
  const behind = index.dependents(entry);
  const { output } = index.model.graph;
  return {
    earlier: output.filter(({ name }) => !behind.has(name)),
    later: output.filter(({ name }) => behind.has(name)),
  };
}

/**
 * Appends what is behind `entry`, reading `hidden` in its place, and writing the outputs that it writes in
 * the original. Numbers of tokens that the exporter wrote down become those of the run.
 *
 * @throws OnnxStructureError where a number of tokens stands where it cannot be left open
 */
export function appendLaterLayers(
  editor: GraphEditor,
  located: LocatedEncoder,
  layer: number,
  entry: readonly string[],
  hidden: readonly string[],
): void {
  const { index } = editor;
  const outputs = new Set(outputsAround(index, entry).later.map(({ name }) => name));
  const copy = new LayerCopy(editor, outputs, tokensAt(located, layer, entry));
  copy.replace(entry, hidden);
  copy.append(index.ancestors(outputs, new Set(entry)));
}

/** S, where the graph has it as a constant. */
export function tokensAt(
  { index, attentions }: LocatedEncoder,
  layer: number,
  entry: readonly string[],
): number | undefined {
  const stated = tensorShape(index.valueInfo(entry[0]))?.at(1);
  return typeof stated === 'number' ? stated : tokensOf(index, attentions[layer]);
}

/** Nodes appended once more, reading other tensors than they did. */
export class LayerCopy {
  readonly #editor: GraphEditor;
  readonly #outputs: ReadonlySet<string>;
  readonly #tokens: number | undefined;
  readonly #names = new Map<string, string>();
  readonly #copied = new Set<NodeProto>();

  /**
   * @param outputs what keeps its name
   * @param tokens S, where the graph has it as a constant
   */
  constructor(editor: GraphEditor, outputs: ReadonlySet<string>, tokens: number | undefined) {
    this.#editor = editor;
    this.#outputs = outputs;
    this.#tokens = tokens;
  }

  /** What is read from now on in place of tensors of the original. */
  replace(tensors: readonly string[], by: readonly string[]): void {
    for (const [i, name] of tensors.entries()) this.#names.set(name, by[i]);
  }

  /** What stands for a tensor of the original. */
  nameOf(tensor: string): string {
    return this.#names.get(tensor) ?? tensor;
  }

  /**
   * Appends those of the nodes that read what was replaced, each once.
   * @param change what else becomes of a node, whose inputs are those of the copy
   * @throws OnnxStructureError where a number of tokens stands where it cannot be left open
   */
  append(
    nodes: readonly NodeProto[],
    change: (node: NodeProto, input: readonly string[]) => Partial<NodeProto> = () => ({}),
  ): void {
    for (const node of nodes) {
      // Weights, and what is known of the pixels, stay.
      if (this.#copied.has(node) || !allInputs(node).some((name) => this.#names.has(name))) continue;
      this.#copied.add(node);
      this.#append(node, change);
    }
  }

  #append(node: NodeProto, change: (node: NodeProto, input: readonly string[]) => Partial<NodeProto>): void {
    const editor = this.#editor;
    refuseSubgraph(editor.index, node);
    for (const output of node.output.filter((name) => name !== '')) {
      const name = this.#outputs.has(output) ? output : editor.name(output);
      this.#names.set(output, name);
      editor.stateAs(name, output);
    }
    const input = node.input.map((name) => this.nameOf(name));
    const output = node.output.map((name) => this.nameOf(name));
    editor.append(
      copyNode(node, {
        name: editor.name(node.opType),
        input,
        output,
        ...freeReshape(editor, node, input, this.#tokens),
        ...openEnded(editor, node, input),
        ...change(node, input),
      }),
    );
  }
}

function refuseSubgraph(index: GraphIndex, node: NodeProto): void {
  if (allInputs(node).length === node.input.filter((name) => name !== '').length) return;
  throw new OnnxStructureError(
    index.model.file,
    'a cut that only the hidden state goes through',
    `${describeNode(node)} behind it, whose subgraph reads tensors from outside`,
    'Export the model without control flow.',
  );
}

/**
 * A Reshape to a constant shape with the number of tokens: -1 in its place, and the batch as the input has
 * it.
 * @param tokens S, where the graph has it as a constant
 */
function freeReshape(
  editor: GraphEditor,
  node: NodeProto,
  [data]: readonly string[],
  tokens: number | undefined,
): Partial<NodeProto> {
  if (node.opType !== 'Reshape' || tokens === undefined) return {};
  const shape = editor.index.values(node.input[1]);
  const axis = shape?.findIndex((size, i) => i > 0 && size === tokens) ?? -1;
  if (!shape || axis < 0) return {};
  if (shape.some((size, i) => i > 0 && i !== axis && size < 1)) {
    throw new OnnxStructureError(
      editor.index.model.file,
      `a shape with the ${tokens} tokens and one open size at most`,
      `${describeNode(node)} to [${shape.join(', ')}]`,
      'Export the model with a free number of tokens.',
    );
  }
  const free = editor.ints(shape.map((size, i) => (i === axis ? -1 : i === 0 ? 0 : size)));
  // Without allowzero, 0 is the size that the input has.
  return { input: [data, free], attribute: node.attribute.filter(({ name }) => name !== 'allowzero') };
}

/**
 * What drops the tokens before the patches: a Gather that names those behind them one by one becomes a Slice.
 */
function openEnded(editor: GraphEditor, node: NodeProto, input: string[]): Partial<NodeProto> {
  const dropped = node.opType === 'Gather' ? droppedPrefix(editor.index, node) : 0;
  if (dropped === 0) return {};
  return { opType: 'Identity', attribute: [], input: [editor.slice(input[0], 1, dropped)] };
}

/** An output whose axes but the last are free, under names of its own. */
export function withFreeShape(info: ValueInfoProto, elementType: number): ValueInfoProto {
  const stated = info.type?.value;
  const shape = tensorShape(info) ?? ['batch', 'tokens', 'channels'];
  const free = shape.map((size, i) => (i < shape.length - 1 || size === null ? `${info.name}_${i}` : size));
  return valueInfo(info.name, stated?.case === 'tensorType' ? stated.value.elemType : elementType, free);
}
