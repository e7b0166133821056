import { defineSignal, type Signal } from './define-signal.js';

/**
 * [N, D] the hidden states that a layer of the language model put out, the sum of its residuals; `norm:
 * 'final'` behind the normalisation that stands before the model's head (DART). Default `'none'`.
 */
export const hiddenStates: Signal<'language-layer', { norm: ['none', 'final'] }> = defineSignal({
  name: 'hiddenStates',
  of: 'language-layer',
  shape: ['N', 'D'],
  range: 'real',
  carry: 'mean',
  parameters: { norm: ['none', 'final'] },
});

/**
 * [T, D] the same of the question: the prompt's tokens behind its last visual token.
 */
export const questionStates: Signal<'language-layer', { norm: ['none', 'final'] }> = defineSignal({
  name: 'questionStates',
  of: 'language-layer',
  shape: ['T', 'D'],
  range: 'real',
  carry: 'keep',
  parameters: { norm: ['none', 'final'] },
});
