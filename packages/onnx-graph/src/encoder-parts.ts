/** The later layers of a vision encoder, over other tokens than the earlier ones left. */
import type { NodeProto, ValueInfoProto } from 'onnx-buf';
import { tokensOf } from './attention.js';
import { OnnxArgumentError, OnnxStructureError } from './errors.js';
import { copyNode, valueInfo, type GraphEditor } from './graph-editor.js';
import { allInputs, describeNode, tensorShape, type GraphIndex } from './graph-index.js';
import { droppedPrefix, type LocatedEncoder } from './vision-encoder.js';

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
  if (encoder.classToken === 'kept') {
    throw new OnnxStructureError(
      index.model.file,
      'features of patches alone',
      'a class token among them',
      'Export the model with vision_feature_select_strategy "default".',
    );
  }
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
  { attentions }: LocatedEncoder,
  layer: number,
  entry: readonly string[],
  hidden: readonly string[],
): void {
  const { index } = editor;
  const outputs = new Set(outputsAround(index, entry).later.map(({ name }) => name));
  const names = new Map(entry.map((name, i) => [name, hidden[i]]));
  const stated = tensorShape(index.valueInfo(entry[0]))?.at(1);
  const tokens = typeof stated === 'number' ? stated : tokensOf(index, attentions[layer]);
  for (const node of index.ancestors(outputs, new Set(entry))) {
    if (!allInputs(node).some((name) => names.has(name))) continue; // weights, and what is known of the pixels
    refuseSubgraph(index, node);
    for (const output of node.output.filter((name) => name !== '')) {
      names.set(output, outputs.has(output) ? output : editor.name(output));
      editor.stateAs(names.get(output) ?? '', output);
    }
    const input = node.input.map((name) => names.get(name) ?? name);
    const output = node.output.map((name) => names.get(name) ?? name);
    editor.append(
      copyNode(node, {
        name: editor.name(node.opType),
        input,
        output,
        ...freeReshape(editor, node, input, tokens),
        ...openEnded(editor, node, input),
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
