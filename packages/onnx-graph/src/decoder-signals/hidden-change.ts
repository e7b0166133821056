import type { DecoderSignal } from './decoder-signal.js';

/** [1, V] the L2 norm of what the layer adds to each visual token (V2Drop). */
export const hiddenChange: DecoderSignal = {
  name: 'hiddenChange',
  shape: ['visual'],
  add: (tap) => {
    const { editor } = tap;
    const [after, before] = [tap.written(), tap.read()].map((x) => editor.toFloat32(tap.visual(x)));
    return editor.reduce('ReduceL2', editor.add('Sub', [after, before]), 2);
  },
};
