import type { GraphSignal } from './graph-signal.js';

/**
 * [B, N] the mean over the heads' maps, prefix tokens' rows and columns removed and the rest NOT
 * renormalised, averaged over queries (FoPru, arXiv 2411.14164, Eq. 3).
 */
export const attentionReceived: GraphSignal = {
  name: 'attentionReceived',
  of: 'layer',
  shape: ['batch', 'tokens'],
  add: ([tap]) => tap.marginal(2),
};
