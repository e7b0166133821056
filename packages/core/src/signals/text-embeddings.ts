import { defineSignal, type Signal } from './define-signal.js';

/**
 * [T, D] the language model's embeddings of the prompt's text tokens, in their order, template included,
 * image tokens left out: what the question says.
 */
export const textEmbeddings: Signal<'prompt'> = defineSignal({
  name: 'textEmbeddings',
  of: 'prompt',
  shape: ['T', 'D'],
  range: 'real',
  carry: 'keep',
});
