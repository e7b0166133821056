import type { GraphSignal } from './graph-signal.js';
import type { LayerTap } from './layer-tap.js';

/**
 * [B, N] how much the class token attends to each patch, itself left out and the rest NOT renormalised.
 * `heads: 'joined'`: softmax(q_CLS K^T / sqrt(D)) over all tokens as ONE head of all D channels (PruMerge's
 * official code); `'mean'`: the mean over the heads of the map's first row.
 */
export const classAttention: GraphSignal = {
  name: 'classAttention',
  of: 'layer',
  shape: ['batch', 'tokens'],
  parameters: { heads: ['joined', 'mean'] },
  needsClassToken: true,
  add: ([tap], { heads }) => {
    tap.requireClassToken();
    return heads === 'mean' ? meanOfHeads(tap) : oneHead(tap);
  },
};

function oneHead({ editor, attention, prefixTokens }: LayerTap): string {
  const keys = attention.keys(); // [B, S, D]
  const scores = editor.add('MatMul', [attention.query(0), editor.transpose(keys, [0, 2, 1])]); // [B, 1, S]
  const scaled = editor.add('Div', [editor.toFloat32(scores), attention.rootOfLength(keys)]);
  return editor.reshape(editor.slice(editor.softmax(scaled), 2, prefixTokens), [0, -1]);
}

function meanOfHeads(tap: LayerTap): string {
  const { editor } = tap;
  const row = editor.slice(tap.attention.probabilities(), 2, 0, 1); // [B, H, 1, S]
  const mean = editor.reduce('ReduceMean', editor.toFloat32(row), 1); // [B, 1, S]
  return tap.patches(editor.reshape(mean, [0, -1]));
}
