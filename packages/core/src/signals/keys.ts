import { defineSignal, type Signal } from './define-signal.js';

/**
 * [N, D] the key projections of a layer, `heads: 'joined'` side by side or their `'mean'`. Default
 * `'joined'`.
 */
export const keys: Signal<'vision-layer', { heads: ['joined', 'mean'] }> = defineSignal({
  name: 'keys',
  of: 'vision-layer',
  shape: ['N', 'D'],
  range: 'real',
  carry: 'mean',
  parameters: { heads: ['joined', 'mean'] },
});
