import { defineSignal, type Signal } from './define-signal.js';

/** [N, D] what the encoder made of each token, before the projector. */
export const features: Signal<'features'> = defineSignal({
  name: 'features',
  of: 'features',
  shape: ['N', 'D'],
  range: 'real',
  carry: 'mean',
});
