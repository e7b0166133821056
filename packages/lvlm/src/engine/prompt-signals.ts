/** The signals of the prompt as it enters the language model. A new one is a line of the table. */
import {
  questionRelevance,
  signalId,
  textEmbeddings,
  type RowProducts,
  type SignalRequest,
} from '@foveate/core';
import type { SignalReader } from './awaited.js';
import type { Prompt } from './sequence.js';

/** What these signals are read of. */
interface PromptSource {
  /** [T, D] of the prompt's text. */
  readonly text: Float32Array;
  /** What the decoder reads first; null as long as its visual tokens are not known. */
  readonly prompt: Prompt | null;
  /** Null: as above. */
  readonly products: RowProducts | null;
}

/** Gives a signal; null where there is not yet what it is read of. */
type PromptProvider = (source: PromptSource) => SignalReader | null;

const providers: readonly (readonly [SignalRequest, PromptProvider])[] = [
  [
    textEmbeddings(),
    ({ text }) =>
      () =>
        text,
  ],
  [questionRelevance(), ({ prompt, products }) => prompt && products && relevance(prompt, products)],
];

/** What may be asked about a prompt, by the signal's id. */
export function promptReaders(source: PromptSource): ReadonlyMap<string, SignalReader> {
  return new Map(
    providers.flatMap(([request, provide]) => {
      const reader = provide(source);
      return reader ? [[signalId(request), reader] as const] : [];
    }),
  );
}

/** All of them: what there is inside the language model. */
export const promptSignals: readonly SignalRequest[] = providers.map(([request]) => request);

const known = promptReaders({ text: new Float32Array(), prompt: null, products: null });
/** Those that there are before the language model too, where visual tokens are still to come. */
export const textSignals: readonly SignalRequest[] = promptSignals.filter((request) =>
  known.has(signalId(request)),
);

/** How many tokens of a prompt are behind its last visual one, the question; at least the last of all. */
export function questionLength({ length, visual }: Pick<Prompt, 'length' | 'visual'>): number {
  return Math.max(1, length - 1 - (visual.at(-1) ?? length));
}

/** Computed once, when it is first asked for. */
function relevance(prompt: Prompt, products: RowProducts): SignalReader {
  let values: Promise<Float32Array> | undefined;
  return () => (values ??= computeRelevance(prompt, products));
}

/** Softmax over the question's tokens of v . t, mean over the visual tokens (SparseVLM's raters). [T] */
async function computeRelevance(prompt: Prompt, products: RowProducts): Promise<Float32Array> {
  const { embeddings, length, visual } = prompt;
  const width = embeddings.length / length;
  const count = questionLength(prompt);
  const question = embeddings.slice((length - count) * width);
  const rows = new Float32Array(visual.length * width);
  for (const [v, place] of visual.entries())
    rows.set(embeddings.subarray(place * width, (place + 1) * width), v * width);
  const dots = await products(rows, question, width); // [N, T]
  const mean = new Float64Array(count);
  for (let v = 0; v < visual.length; v++) {
    const shares = softmax(dots.subarray(v * count, (v + 1) * count));
    for (const [t, share] of shares.entries()) mean[t] += share / visual.length;
  }
  return Float32Array.from(mean);
}

/** In float64. */
function softmax(scores: Float32Array): Float64Array {
  const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const exponentials = Float64Array.from(scores, (score) => Math.exp(score - largest));
  const total = exponentials.reduce((a, b) => a + b, 0);
  return exponentials.map((one) => one / total);
}
