import type { GraphSignal } from './graph-signal.js';

/** [B, N, D] the projected queries without any scale, `heads: 'joined'` side by side, or their `'mean'`. */
export const queries: GraphSignal = {
  name: 'queries',
  of: 'layer',
  shape: ['batch', 'tokens', 'channels'],
  parameters: { heads: ['joined', 'mean'] },
  add: ([tap], { heads }) => tap.patches(tap.attention.queries(heads === 'mean')),
};
