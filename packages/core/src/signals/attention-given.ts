import { defineSignal, type Signal } from './define-signal.js';

/**
 * [N] how much each token attends to the others: the mean over heads and keys j of attention[h, i, j], CLS
 * left out and the rest NOT renormalised (FoPru, Eq. 2).
 */
export const attentionGiven: Signal<'vision-layer'> = defineSignal({
  name: 'attentionGiven',
  of: 'vision-layer',
  shape: ['N'],
  range: 'non-negative',
  carry: 'mean',
});
