import { defineSignal, type Signal } from './define-signal.js';

/**
 * [N] how much the prompt's text attends to each of its visual tokens in a layer of the language model, mean
 * over heads. `rows: 'last'`: from the last prompt token (FastV's official code); `'mean'`: averaged over
 * every query position after the image (FastV's paper). Default `'last'`. Of the layer `'next'`: by that
 * layer's own normalisation and projections of the tokens as they are before it (PyramidDrop).
 */
export const promptAttention: Signal<'language-layer', { rows: ['last', 'mean'] }> = defineSignal({
  name: 'promptAttention',
  of: 'language-layer',
  shape: ['N'],
  range: 'non-negative',
  carry: 'sum',
  parameters: { rows: ['last', 'mean'] },
});
