import { defineSignal, type Signal } from './define-signal.js';

/**
 * [L] the share of the attention received that each layer's top 25 % of tokens hold (FoPru, Figure 1). About
 * the encoder, not about a token: for reports.
 */
export const attentionShare: Signal<'vision'> = defineSignal({
  name: 'attentionShare',
  of: 'vision',
  shape: ['L'],
  range: 'non-negative',
  carry: 'keep',
});
