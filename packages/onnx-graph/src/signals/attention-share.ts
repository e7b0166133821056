import type { GraphSignal } from './graph-signal.js';
import type { LayerTap } from './layer-tap.js';

/**
 * [B, L] for each of the L layers present, the share of the attention received that the quarter of the tokens
 * (rounded up) with the most of it holds (FoPru's Figure 1).
 */
export const attentionShare: GraphSignal = {
  name: 'attentionShare',
  of: 'encoder',
  shape: ['batch', 'layers'],
  add: (taps) => taps[0].editor.add('Concat', taps.map(share), { axis: 1 }),
};

/** Of one layer. [B, 1] */
function share(tap: LayerTap): string {
  const { editor } = tap;
  const received = tap.marginal(2);
  const roundedUp = editor.add('Add', [editor.length(received, 1), editor.ints([3])]);
  const quarter = editor.add('Div', [roundedUp, editor.ints([4])]);
  const { values: top } = editor.topK(received, quarter);
  const held = editor.add('Div', [
    editor.reduce('ReduceSum', top, 1),
    editor.reduce('ReduceSum', received, 1),
  ]);
  return editor.reshape(held, [-1, 1]);
}
