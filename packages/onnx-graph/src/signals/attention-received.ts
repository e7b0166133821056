import type { GraphSignal } from './graph-signal.js';

/**
 * [B, N] the mean over the heads' maps, prefix tokens' rows and columns removed and the rest NOT
 * renormalised, averaged over queries (FoPru, arXiv 2411.14164, Eq. 3). `queries: 'all'`: prefix tokens' rows
 * stay in (HiPrune).
 */
export const attentionReceived: GraphSignal = {
  name: 'attentionReceived',
  of: 'layer',
  shape: ['batch', 'tokens'],
  parameters: { queries: ['patches', 'all'] },
  add: ([tap], { queries }) => (queries === 'all' ? tap.receivedFromAll() : tap.marginal(2)),
};
