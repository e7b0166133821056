import { defineSignal, type Signal } from './define-signal.js';

/**
 * [T] how much of the image each token of the question is about, the question being the prompt's tokens
 * behind its last visual token: softmax over them of the dot products v . t of the embeddings that enter the
 * language model, mean over the visual tokens that enter it (SparseVLM's choice of raters). Sums to 1.
 */
export const questionRelevance: Signal<'prompt'> = defineSignal({
  name: 'questionRelevance',
  of: 'prompt',
  shape: ['T'],
  range: 'non-negative',
  carry: 'keep',
});
