import { defineSignal, type Signal } from './define-signal.js';

/**
 * [N, D] each token in the space that CLIP's image and text towers share: its visual projection of the
 * normalised hidden states behind the layer that makes the features (CDPruner). To be compared with
 * `clipTextEmbeddings`.
 */
export const clipImageEmbeddings: Signal<'features'> = defineSignal({
  name: 'clipImageEmbeddings',
  of: 'features',
  shape: ['N', 'D'],
  range: 'real',
  carry: 'mean',
});

/**
 * [T, D] the question in the same space, by CLIP's text tower; a row for each segment that the tower reads at
 * once (77 of its tokens).
 */
export const clipTextEmbeddings: Signal<'prompt'> = defineSignal({
  name: 'clipTextEmbeddings',
  of: 'prompt',
  shape: ['T', 'D'],
  range: 'real',
  carry: 'keep',
});
