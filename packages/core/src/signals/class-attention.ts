import { defineSignal, type Signal } from './define-signal.js';

/**
 * [N] how much the class token attends to each patch, itself left out and the rest NOT renormalised.
 * `heads: 'joined'`: of ONE head over all D channels, softmax(q_CLS . K^T / sqrt(D)), as PruMerge's official
 * code has it; `'mean'`: the mean over the heads of the attention map's CLS row. Default `'joined'`.
 */
export const classAttention: Signal<'vision-layer', { heads: ['joined', 'mean'] }> = defineSignal({
  name: 'classAttention',
  of: 'vision-layer',
  shape: ['N'],
  range: 'non-negative',
  carry: 'sum',
  parameters: { heads: ['joined', 'mean'] },
});
