/** What is added to the scores of an attention: where each form takes it, and how it is put there. */
import { TensorProto_DataType as DataType, type NodeProto } from 'onnx-buf';
import type { AttentionForm, AttentionNodes } from './attention.js';
import { OnnxStructureError } from './errors.js';
import type { GraphEditor } from './graph-editor.js';
import { describeNode } from './graph-index.js';

const FLOAT: number = DataType.FLOAT;

/** Input of a fused operator that is added to its scores, broadcast to [B, H, S, S]. */
export const BIAS_INPUT: Readonly<Record<Exclude<AttentionForm, 'softmax'>, number>> = {
  'ai.onnx.Attention': 3,
  'com.microsoft.Attention': 5,
  'com.microsoft.MultiHeadAttention': 5,
};

/**
 * The attention's node, its scores raised by `bias`, one value a key, before the softmax.
 * @param bias [S] (float32)
 * @param input what the node reads, with the names that hold there
 * @throws OnnxStructureError where something is added to a fused operator's scores already
 */
export function withBias(
  editor: GraphEditor,
  { form, node }: AttentionNodes,
  bias: string,
  input: readonly string[],
): Partial<NodeProto> {
  const { index } = editor;
  const type = index.elementType(node.input[0]) ?? DataType.FLOAT;
  const typed = type === FLOAT ? bias : editor.add('Cast', [bias], { to: type });
  if (form === 'softmax') return { input: [editor.add('Add', [input[0], typed]), ...input.slice(1)] };
  const place = BIAS_INPUT[form];
  if ((node.input[place] ?? '') !== '') {
    throw new OnnxStructureError(
      index.model.file,
      'an attention whose scores nothing is added to yet',
      `${describeNode(node)} with "${node.input[place]}"`,
      'Export the model with eager attention (MatMul, Softmax, MatMul).',
    );
  }
  const tokens = editor.length(bias, 0);
  const square = editor.add('Concat', [tokens, tokens], { axis: 0 });
  const rows = editor.add('Expand', [typed, square]); // [S, S]
  const whole = form === 'ai.onnx.Attention' ? rows : editor.unsqueeze(editor.unsqueeze(rows, 0), 0);
  const padded = Array.from({ length: Math.max(input.length, place + 1) }, (_, i) => input[i] ?? '');
  padded[place] = whole;
  return { input: padded };
}
