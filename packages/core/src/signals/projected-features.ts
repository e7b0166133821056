import { defineSignal, type Signal } from './define-signal.js';

/**
 * [N, D] the features behind the projector, in the space of the language model's embeddings: to be compared
 * with `textEmbeddings`.
 */
export const projectedFeatures: Signal<'features'> = defineSignal({
  name: 'projectedFeatures',
  of: 'features',
  shape: ['N', 'D'],
  range: 'real',
  carry: 'mean',
});
