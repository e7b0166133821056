/** The hidden states that a layer puts out. */
import type { DecoderSignal } from './decoder-signal.js';
import type { DecoderTap } from './decoder-tap.js';

const parameters = { norm: ['none', 'final'] } as const;

/** [1, V, D] the sums of residuals; `norm: 'final'`: behind the normalisation before the head (DART). */
export const hiddenStates: DecoderSignal = {
  name: 'hiddenStates',
  shape: ['visual', 'channels'],
  parameters,
  add: (tap, { norm }) => normalized(tap, tap.visual(tap.written()), norm),
};

/** [1, T, D] the same of the question. */
export const questionStates: DecoderSignal = {
  name: 'questionStates',
  shape: ['question', 'channels'],
  parameters,
  add: (tap, { norm }) => normalized(tap, tap.question(tap.written()), norm),
};

function normalized(tap: DecoderTap, rows: string, norm: string): string {
  return norm === 'final' ? tap.normalized(rows) : rows;
}
