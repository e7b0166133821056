/** The signals that a decoder's graph can give of its layers. A new one is a file beside this and a line here. */
import { promptAttention, questionAttention } from './attention.js';
import type { DecoderSignal } from './decoder-signal.js';
import { hiddenChange } from './hidden-change.js';
import { hiddenStates, questionStates } from './hidden-states.js';
import { keyMagnitude, questionKeyMagnitude } from './key-magnitude.js';

/** Every provider, by name. */
export const decoderSignals: ReadonlyMap<string, DecoderSignal> = new Map(
  [
    ...[promptAttention, questionAttention],
    ...[hiddenStates, questionStates, hiddenChange],
    ...[keyMagnitude, questionKeyMagnitude],
  ].map((signal) => [signal.name, signal]),
);
