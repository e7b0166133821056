import { defineSignal, type Signal } from './define-signal.js';

/**
 * [N] how much the others attend to each token: the mean over heads and queries i of attention[h, i, j], CLS
 * left out and the rest NOT renormalised (FoPru, Eq. 3).
 */
export const attentionReceived: Signal<'vision-layer'> = defineSignal({
  name: 'attentionReceived',
  of: 'vision-layer',
  shape: ['N'],
  range: 'non-negative',
  carry: 'sum',
});
