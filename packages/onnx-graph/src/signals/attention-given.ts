import type { GraphSignal } from './graph-signal.js';

/**
 * [B, N] the mean over the heads' maps, prefix tokens' rows and columns removed and the rest NOT
 * renormalised, averaged over keys (FoPru, arXiv 2411.14164, Eq. 2).
 */
export const attentionGiven: GraphSignal = {
  name: 'attentionGiven',
  of: 'layer',
  shape: ['batch', 'tokens'],
  add: ([tap]) => tap.marginal(3),
};
