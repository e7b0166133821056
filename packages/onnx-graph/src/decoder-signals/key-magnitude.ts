/** How large the keys of a layer are. */
import type { DecoderSignal } from './decoder-signal.js';
import type { DecoderTap } from './decoder-tap.js';

/** [1, V] the L1 norm of the rotated keys, all key heads together (DART, arXiv 2502.11494). */
export const keyMagnitude: DecoderSignal = {
  name: 'keyMagnitude',
  shape: ['visual'],
  add: (tap) => tap.visual(magnitude(tap)),
};

/** [1, T] the same of the question. */
export const questionKeyMagnitude: DecoderSignal = {
  name: 'questionKeyMagnitude',
  shape: ['question'],
  add: (tap) => tap.question(magnitude(tap)),
};

/** [1, S] */
function magnitude(tap: DecoderTap): string {
  const { editor } = tap;
  const ofHeads = editor.reduce('ReduceL1', editor.toFloat32(tap.keys()), 3);
  return editor.reduce('ReduceSum', ofHeads, 1);
}
