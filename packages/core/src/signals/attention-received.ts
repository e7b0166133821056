import { defineSignal, type Signal } from './define-signal.js';

/**
 * [N] how much the others attend to each token: the mean over heads and queries i of attention[h, i, j], CLS
 * left out and the rest NOT renormalised (FoPru, Eq. 3). `queries: 'all'`: the class token's query, where
 * there is one, is among those averaged (HiPrune). Default `'patches'`.
 */
export const attentionReceived: Signal<'vision-layer', { queries: ['patches', 'all'] }> = defineSignal({
  name: 'attentionReceived',
  of: 'vision-layer',
  shape: ['N'],
  range: 'non-negative',
  carry: 'sum',
  parameters: { queries: ['patches', 'all'] },
});
