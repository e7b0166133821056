/** The signals that a vision encoder's graph can give. A new one is a file beside this and a line here. */
import { attentionGiven } from './attention-given.js';
import { attentionMap } from './attention-map.js';
import { attentionReceived } from './attention-received.js';
import { attentionShare } from './attention-share.js';
import { classAttention } from './class-attention.js';
import type { GraphSignal } from './graph-signal.js';
import { keys } from './keys.js';
import { queries } from './queries.js';

/** Every provider, by name. */
export const graphSignals: ReadonlyMap<string, GraphSignal> = new Map(
  [attentionGiven, attentionMap, attentionReceived, attentionShare, classAttention, keys, queries].map(
    (signal) => [signal.name, signal],
  ),
);
