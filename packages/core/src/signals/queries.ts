import { defineSignal, type Signal } from './define-signal.js';

/**
 * [N, D] the query projections of a layer, without any scale, `heads: 'joined'` side by side or their
 * `'mean'`. Default `'joined'`.
 */
export const queries: Signal<'vision-layer', { heads: ['joined', 'mean'] }> = defineSignal({
  name: 'queries',
  of: 'vision-layer',
  shape: ['N', 'D'],
  range: 'real',
  carry: 'mean',
  parameters: { heads: ['joined', 'mean'] },
});
