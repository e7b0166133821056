/** Adds a bias to the attention scores of a decoder's layers, given with each run. */
import { TensorProto_DataType as DataType, type NodeProto } from 'onnx-buf';
import {
  locateDecoder,
  POSITIONS,
  rotatesItself,
  type DecoderAttention,
  type DecoderLayer,
} from './decoder.js';
import { OnnxStructureError } from './errors.js';
import { copyNode, GraphEditor, valueInfo } from './graph-editor.js';
import { describeNode, type GraphIndex } from './graph-index.js';
import { withNodes } from './graph-parts.js';
import { appendRotated, checkGroupQuery } from './group-query.js';
import type { OnnxModel } from './model.js';

const FLOAT: number = DataType.FLOAT;
/** Below every score, and no infinity, of which a row of nothing else would make NaN. */
const HIDDEN = -3e38;
/** Inputs of the fused operators by position. */
const STANDARD_MASK = 3;
const GROUP_QUERY_BIAS = 10;

/** What {@link biasDecoder} returns. */
export interface BiasedDecoder {
  readonly model: OnnxModel;
  /** Further input [1, 1, S, P + S] (float32): added to the scores of layer 0 before their softmax. */
  readonly firstBias: string;
  /** The same for the layers behind it. */
  readonly laterBias: string;
}

/**
 * A decoder that adds a bias to its attention scores, the same for all heads. Its other inputs and outputs are
 * the original's; where it had no `position_ids`, it has: positions may have gaps.
 *
 * @throws OnnxStructureError where the model is no decoder whose layers are found, or a layer's attention takes no
 * bias
 */
export function biasDecoder(model: OnnxModel): BiasedDecoder {
  const decoder = locateDecoder(model);
  const { index, attentions, layers, stretch } = decoder;
  const own = index.model;
  const editor = new GraphEditor(index);
  const names = { firstBias: editor.name('first_bias'), laterBias: editor.name('later_bias') };
  const typed = biasesByType(editor);
  const appended = appendedBy(editor, own);
  const replaced = new Map<NodeProto, NodeProto[]>();
  for (const [layer, attention] of attentions) {
    const input = layer === 0 ? names.firstBias : names.laterBias;
    biasAttention(editor, attention, layers.get(layer), (type) => typed(input, type));
    replaced.set(attention.form === 'softmax' ? attention.nodes.node : attention.node, appended());
  }
  const { graph } = editor.build();
  const positions =
    stretch.positions === null
      ? [valueInfo(POSITIONS, DataType.INT64, ['batch_size', 'sequence_length'])]
      : [];
  const biases = Object.values(names).map((name) =>
    valueInfo(name, DataType.FLOAT, [1, 1, 'sequence_length', 'biased_keys']),
  );
  const node = own.graph.node.flatMap((one) => replaced.get(one) ?? [one]);
  const input = [...graph.input, ...positions, ...biases];
  return { model: withNodes(own, { ...graph, node, input }), ...names };
}

/** The nodes that were appended since it was asked last. */
function appendedBy(editor: GraphEditor, { graph }: OnnxModel): () => NodeProto[] {
  let known = graph.node.length;
  return () => {
    const nodes = editor.build().graph.node.slice(known);
    known += nodes.length;
    return nodes;
  };
}

/** A bias in the type that an attention takes; each made once, in the first node that needs it. */
function biasesByType(editor: GraphEditor): (bias: string, type: number) => string {
  const made = new Map<string, string>();
  return (bias, type) => {
    if (type === FLOAT) return bias;
    const id = `${bias} ${type}`;
    const cast = made.get(id) ?? editor.add('Cast', [bias], { to: type });
    made.set(id, cast);
    return cast;
  };
}

function biasAttention(
  editor: GraphEditor,
  attention: DecoderAttention,
  layer: DecoderLayer | undefined,
  bias: (type: number) => string,
): void {
  const { index } = editor;
  switch (attention.form) {
    case 'softmax':
      biasSoftmax(editor, index, attention.nodes.node, bias);
      return;
    case 'ai.onnx.Attention':
      biasStandard(editor, index, attention.node, bias);
      return;
    case 'com.microsoft.GroupQueryAttention': {
      const { node } = attention;
      checkGroupQuery(editor, node);
      const input = Array.from({ length: GROUP_QUERY_BIAS }, (_, i) => node.input[i] ?? '');
      input.push(bias(typeOf(index, node.input[0])));
      if (layer && rotatesItself(node)) appendRotated(editor, node, layer, input, node.output, POSITIONS);
      else editor.append(copyNode(node, { input }));
    }
  }
}

/** softmax(masked scores + bias) */
function biasSoftmax(
  editor: GraphEditor,
  index: GraphIndex,
  softmax: NodeProto,
  bias: (type: number) => string,
): void {
  const [scores = ''] = softmax.input;
  const rank = index.rank(scores);
  if (rank !== undefined && rank !== 4) refuse(index, softmax, `scores of ${rank} dimensions`);
  const biased = editor.add('Add', [scores, bias(typeOf(index, scores))]);
  editor.append(copyNode(softmax, { input: [biased] }));
}

/** A mask that says where to look becomes one that is added. */
function biasStandard(
  editor: GraphEditor,
  index: GraphIndex,
  node: NodeProto,
  bias: (type: number) => string,
): void {
  const mask = node.input[STANDARD_MASK] ?? '';
  const type = typeOf(index, node.input[0]);
  const input = Array.from({ length: Math.max(4, node.input.length) }, (_, i) => node.input[i] ?? '');
  const masked = (): string =>
    index.elementType(mask) === DataType.BOOL
      ? editor.add('Cast', [editor.add('Where', [mask, bias(DataType.FLOAT), editor.float([HIDDEN])])], {
          to: type,
        })
      : editor.add('Add', [mask, bias(type)]);
  input[STANDARD_MASK] = mask === '' ? bias(type) : masked();
  editor.append(copyNode(node, { input }));
}

/** The type of a tensor's numbers; float32 where the graph does not say. */
function typeOf(index: GraphIndex, tensor = ''): number {
  return index.elementType(tensor) ?? FLOAT;
}

function refuse(index: GraphIndex, node: NodeProto, what: string): never {
  throw new OnnxStructureError(
    index.model.file,
    'a decoder attention that takes a bias [1, 1, tokens, all tokens]',
    `${describeNode(node)} with ${what}`,
    'Export the decoder with eager attention (MatMul, Softmax, MatMul).',
  );
}
