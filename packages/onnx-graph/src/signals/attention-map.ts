import type { GraphSignal } from './graph-signal.js';

/**
 * [B, H, S, S] the maps of the H heads themselves, S = N, or N + 1 with CLS first; of several prefix tokens
 * the last. For whoever reduces them outside the graph: CLIP-L/336 has 21 MB of them a layer.
 */
export const attentionMap: GraphSignal = {
  name: 'attentionMap',
  of: 'layer',
  shape: ['batch', 'heads', 'positions', 'positions'],
  add: ([{ editor, attention, prefixTokens }]) => {
    const dropped = Math.max(0, prefixTokens - 1);
    const whole = attention.probabilities();
    return dropped > 0 ? [2, 3].reduce((map, axis) => editor.slice(map, axis, dropped), whole) : whole;
  },
};
