import type { GraphSignal } from './graph-signal.js';

/** [B, N, D] the projected keys without any scale, `heads: 'joined'` side by side, or their `'mean'`. */
export const keys: GraphSignal = {
  name: 'keys',
  of: 'layer',
  shape: ['batch', 'tokens', 'channels'],
  parameters: { heads: ['joined', 'mean'] },
  add: ([tap], { heads }) => tap.patches(tap.attention.keys(heads === 'mean')),
};
