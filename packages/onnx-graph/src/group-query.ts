/** com.microsoft.GroupQueryAttention: its queries, keys and rotation, outside the operator. */
import { create } from '@bufbuild/protobuf';
import { NodeProtoSchema, type NodeProto } from 'onnx-buf';
import type { DecoderLayer } from './decoder.js';
import { OnnxStructureError } from './errors.js';
import { copyNode, intAttribute, type GraphEditor } from './graph-editor.js';
import { attribute, describeNode } from './graph-index.js';

/** Inputs of the operator by position. */
const QUERY = 0;
const KEY = 1;
const VALUE = 2;
const COSINES = 7;
const SINES = 8;
const POSITIONS = 9;
const BIAS = 10;
const SINK = 11;

/** Heads of the queries. */
function queryHeads(node: NodeProto): number {
  return Number(attribute(node, 'num_heads')?.i ?? 0);
}

/** @throws OnnxStructureError where keys are weighted by more than their product with the queries */
export function checkGroupQuery(editor: GraphEditor, node: NodeProto): void {
  const bad = [
    ...((attribute(node, 'softcap')?.f ?? 0) === 0 ? [] : ['softcap']),
    ...(Number(attribute(node, 'local_window_size')?.i ?? -1) === -1 ? [] : ['local_window_size']),
    ...(Number(attribute(node, 'smooth_softmax')?.i ?? 0) <= 0 ? [] : ['smooth_softmax']),
    ...((node.input[BIAS] ?? '') === '' ? [] : ['attention_bias']),
    ...((node.input[SINK] ?? '') === '' ? [] : ['head_sink']),
  ];
  if (bad.length === 0) return;
  throw new OnnxStructureError(
    editor.index.model.file,
    'GroupQueryAttention over all tokens with a plain softmax',
    `${describeNode(node)} with ${bad.join(', ')}`,
    'Export the decoder with eager attention (MatMul, Softmax, MatMul).',
  );
}

/** The operands [B, S, heads * d] of queries, keys and values; packed ones are taken apart. */
function operands(
  editor: GraphEditor,
  node: NodeProto,
  { kvHeads, headDim }: DecoderLayer,
  input: readonly string[] = node.input,
): [query: string, key: string, value: string] {
  const [query, key, value] = [input[QUERY], input[KEY], input[VALUE]];
  if (key !== '') return [query, key, value];
  const first = queryHeads(node) * headDim;
  const second = first + kvHeads * headDim;
  return [
    editor.slice(query, 2, 0, first),
    editor.slice(query, 2, first, second),
    editor.slice(query, 2, second),
  ];
}

/** `x` [B, S, heads * d] turned by its positions [B, S], as the operator with do_rotary does it. */
function rotate(editor: GraphEditor, node: NodeProto, x: string, heads: number, positions: string): string {
  const [cosines, sines] = [node.input[COSINES], node.input[SINES]];
  const half = editor.index.lastDimension(cosines);
  if (half === undefined) {
    throw new OnnxStructureError(
      editor.index.model.file,
      'a table of cosines of known size',
      `${describeNode(node)} with one computed in the graph`,
      'Export the decoder with constant rotary tables.',
    );
  }
  const output = editor.name('RotaryEmbedding');
  const attributes = {
    interleaved: Number(attribute(node, 'rotary_interleaved')?.i ?? 0),
    num_heads: heads,
    rotary_embedding_dim: 2 * half,
  };
  editor.append(
    create(NodeProtoSchema, {
      name: output,
      domain: 'com.microsoft',
      opType: 'RotaryEmbedding',
      input: [x, positions, cosines, sines],
      output: [output],
      attribute: Object.entries(attributes).map(([name, value]) => intAttribute(name, value)),
    }),
  );
  return output;
}

/**
 * Appends `node`, reading `input` and writing `output`, with the rotation before it: inside, it would look at
 * the first of the positions only and count on from there.
 */
export function appendRotated(
  editor: GraphEditor,
  node: NodeProto,
  layer: DecoderLayer,
  input: readonly string[],
  output: string[],
  positions: string,
): void {
  const [query, key, value] = operands(editor, node, layer, input);
  editor.append(
    copyNode(node, {
      name: editor.name(node.opType),
      input: [
        rotate(editor, node, query, queryHeads(node), positions),
        rotate(editor, node, key, layer.kvHeads, positions),
        value,
        ...input.map((name, i) => (i >= COSINES && i <= POSITIONS ? '' : name)).slice(VALUE + 1),
      ],
      output,
      attribute: node.attribute.map((a) => (a.name === 'do_rotary' ? intAttribute(a.name, 0) : a)),
    }),
  );
}

/**
 * Keys of the tokens that are run as the operator caches them, computed beside it. [B, kvHeads, S, d]
 * @param positions [B, S], where the operator rotates
 */
export function currentKeys(
  editor: GraphEditor,
  node: NodeProto,
  layer: DecoderLayer,
  positions: string | undefined,
): string {
  const { kvHeads, headDim } = layer;
  const [, key] = operands(editor, node, layer);
  const turned = positions === undefined ? key : rotate(editor, node, key, kvHeads, positions);
  return editor.transpose(editor.reshape(turned, [0, 0, kvHeads, headDim]), [0, 2, 1, 3]);
}

/**
 * Probabilities of the last `rows` queries (a vector of one int64), computed beside the operator.
 * [B, heads, rows, T]
 * @param positions [B, S], where the operator rotates
 * @param keyed [B, kvHeads, T, d] what is attended to; default: all that the operator caches
 */
export function probabilities(
  editor: GraphEditor,
  node: NodeProto,
  layer: DecoderLayer,
  rows: string,
  positions: string | undefined,
  keyed: string = node.output[1] ?? '',
): string {
  const { kvHeads, headDim } = layer;
  const heads = queryHeads(node);
  const asking = editor.last(operands(editor, node, layer)[0], 1, rows);
  const turned =
    positions === undefined ? asking : rotate(editor, node, asking, heads, editor.last(positions, 1, rows));
  const split = editor.transpose(
    editor.reshape(editor.toFloat32(turned), [0, 0, heads, headDim]),
    [0, 2, 1, 3],
  );
  // Heads that share keys side by side, as if they were further queries: [B, kvHeads, heads / kvHeads * rows,
  // d].
  const query = editor.reshape(split, [0, kvHeads, -1, headDim]);
  const keys = editor.toFloat32(editor.transpose(keyed, [0, 1, 3, 2])); // [B, kvHeads, d, T]
  const scale = attribute(node, 'scale')?.f ?? 0;
  const scaled = editor.add('Mul', [query, editor.float([scale === 0 ? headDim ** -0.5 : scale])]);
  const scores = editor.add('MatMul', [scaled, keys]);
  const total = editor.length(keys, 3);
  const shape = editor.add('Concat', [editor.ints([0, heads]), rows, total], { axis: 0 });
  const perHead = editor.add('Reshape', [scores, shape]);
  const columns = editor.range(editor.ints([0]), total);
  const queries = editor.reshape(editor.range(editor.add('Sub', [total, rows]), total), [-1, 1]);
  const future = editor.add('Less', [queries, columns]);
  return editor.softmax(editor.add('Where', [future, editor.float([-3.4e38]), perHead]));
}
