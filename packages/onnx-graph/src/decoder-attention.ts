/** The scores of ai.onnx.Attention in a decoder, computed beside it: the operator keeps them to itself. */
import { TensorProto_DataType as DataType, type NodeProto } from 'onnx-buf';
import { OnnxStructureError } from './errors.js';
import type { GraphEditor } from './graph-editor.js';
import { attribute, describeNode, tensorShape, type GraphIndex } from './graph-index.js';

/** Below every score, and no infinity, of which a row of nothing else would make NaN. */
const HIDDEN = -3e38;

/**
 * Softmax(scale * Q K^T + mask) of the last `count` queries. [1, H, count, T], float32
 * @throws OnnxStructureError where the operator does more than that, or its heads are not laid out
 */
export function standardProbabilities(editor: GraphEditor, node: NodeProto, count: string): string {
  const { index } = editor;
  checkStandard(index, node);
  const [query = '', key = '', , mask = ''] = node.input;
  const rows = editor.toFloat32(editor.last(query, 2, count));
  const scale = attribute(node, 'scale')?.f ?? 0;
  const scaled =
    scale === 0
      ? editor.add('Div', [rows, editor.add('Sqrt', [editor.toFloat32(editor.length(query, -1))])])
      : editor.add('Mul', [rows, editor.float([scale])]);
  const keys = editor.transpose(editor.toFloat32(key), [0, 1, 3, 2]);
  const scores = editor.add('MatMul', [scaled, keys]);
  if (mask === '') return editor.softmax(scores);
  const own = editor.last(mask, 2, count);
  const masked =
    index.elementType(mask) === DataType.BOOL
      ? editor.add('Where', [own, scores, editor.float([HIDDEN])])
      : editor.add('Add', [scores, editor.toFloat32(own)]);
  return editor.softmax(masked);
}

function checkStandard(index: GraphIndex, node: NodeProto): void {
  const refuse = (what: string): never => {
    throw new OnnxStructureError(
      index.model.file,
      'a decoder attention whose scores can be computed from its queries, keys and mask',
      `${describeNode(node)} with ${what}`,
      'Export the decoder with eager attention (MatMul, Softmax, MatMul).',
    );
  };
  const [query = '', key = '', , mask = '', ...others] = node.input;
  if (others.some((name) => name !== '')) refuse('a cache of its own');
  if (Number(attribute(node, 'is_causal')?.i ?? 0) !== 0) refuse('"is_causal"');
  if ((attribute(node, 'softcap')?.f ?? 0) !== 0) refuse('"softcap"');
  if (index.rank(query) !== 4 || index.rank(key) !== 4) refuse('heads that are not split');
  const [heads, ofKeys] = [query, key].map((name) => tensorShape(index.valueInfo(name))?.[1]);
  if (heads !== ofKeys) refuse('fewer heads of keys than of queries');
  if (mask !== '' && index.rank(mask) !== 4)
    refuse('a mask of other dimensions than [batch, heads, tokens, all tokens]');
}
