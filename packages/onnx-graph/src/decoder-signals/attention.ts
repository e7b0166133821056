/** How much text attends to visual tokens. */
import type { PromptRows } from '../prompt-attention.js';
import type { DecoderSignal } from './decoder-signal.js';

/**
 * [1, V] mean over heads, of the prompt's `'last'` token or the mean of all behind the last visual one
 * (FastV, arXiv 2403.06764; of the next layer PyramidDrop, arXiv 2410.17247).
 */
export const promptAttention: DecoderSignal = {
  name: 'promptAttention',
  shape: ['visual'],
  parameters: { rows: ['last', 'mean'] },
  ofNextLayer: true,
  add: (tap, { rows }) => tap.visual(tap.promptAttention(rows as PromptRows)),
};

/** [1, V, T] mean over heads, of each token of the question (SparseVLM, arXiv 2410.04417). */
export const questionAttention: DecoderSignal = {
  name: 'questionAttention',
  shape: ['visual', 'question'],
  ofNextLayer: true,
  add: (tap) => tap.editor.transpose(tap.visual(tap.questionAttention(), 2), [0, 2, 1]),
};
