import { defineSignal, type Signal } from './define-signal.js';

/**
 * [N] the L1 norm of each token's keys in a layer of the language model, rotated as the layer has them, all
 * key heads together (DART; heads that several query heads share count once).
 */
export const keyMagnitude: Signal<'language-layer'> = defineSignal({
  name: 'keyMagnitude',
  of: 'language-layer',
  shape: ['N'],
  range: 'non-negative',
  carry: 'mean',
});

/** [T] the same of the question: the prompt's tokens behind its last visual token. */
export const questionKeyMagnitude: Signal<'language-layer'> = defineSignal({
  name: 'questionKeyMagnitude',
  of: 'language-layer',
  shape: ['T'],
  range: 'non-negative',
  carry: 'keep',
});
