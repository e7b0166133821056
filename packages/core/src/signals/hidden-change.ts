import { defineSignal, type Signal } from './define-signal.js';

/**
 * [N] how far a layer of the language model moved each token: the L2 norm of what it put out less what it
 * read (V2Drop).
 */
export const hiddenChange: Signal<'language-layer'> = defineSignal({
  name: 'hiddenChange',
  of: 'language-layer',
  shape: ['N'],
  range: 'non-negative',
  carry: 'mean',
});
