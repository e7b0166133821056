import { defineSignal, type Signal } from './define-signal.js';

/**
 * [N, T] how much each token of the question, the prompt's tokens behind its last visual token, attends to
 * each visual token in a layer of the language model: mean over heads, not renormalised (SparseVLM, PriorTR).
 */
export const questionAttention: Signal<'language-layer'> = defineSignal({
  name: 'questionAttention',
  of: 'language-layer',
  shape: ['N', 'T'],
  range: 'non-negative',
  carry: 'sum',
});
