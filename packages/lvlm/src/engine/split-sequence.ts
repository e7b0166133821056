/** A prompt and its answer on their way through a decoder in two graphs: between them any reducer decides, in the caller's thread. */
import { applyPlan, type ReductionPlan, type SignalRequest } from '@foveate/core';
import type { InferenceSession, Tensor } from 'onnxruntime-common';
import type { LanguageRequest } from './api.js';
import { KvCache } from './kv-cache.js';
import {
  embeddingFeeds,
  headFeeds,
  lastLogits,
  matrix,
  ones,
  taken,
  vector,
  type DecoderSession,
  type Prefill,
  type Prompt,
  type PromptPlanner,
  type Sequence,
} from './sequence.js';
import { floats, run } from './sessions.js';

/** The two graphs, see splitDecoder of @foveate/onnx-graph. */
export interface SplitSessions {
  readonly lower: InferenceSession;
  readonly upper: InferenceSession;
  readonly names: {
    readonly hidden: string;
    readonly visualTokens: string;
    readonly promptAttention: readonly string[];
  };
}

/** Rows that go from the lower graph into the upper one. */
interface Crossing {
  /** [positions.length, D] */
  readonly hidden: Float32Array;
  readonly positions: readonly number[];
}

/** A sequence in two graphs. */
export class SplitSequence implements Sequence {
  length = 0;
  readonly #decoder: Omit<DecoderSession, 'session'>;
  readonly #sessions: SplitSessions;
  readonly #signals: readonly SignalRequest[];
  readonly #lowerCache: KvCache;
  readonly #upperCache: KvCache;
  #upperLength = 0;

  constructor(
    decoder: Omit<DecoderSession, 'session'>,
    sessions: SplitSessions,
    { layer, signals }: LanguageRequest,
  ) {
    this.#decoder = decoder;
    this.#sessions = sessions;
    this.#signals = signals;
    this.#lowerCache = new KvCache(decoder.tensor, decoder.dimensions, 0, layer);
    this.#upperCache = new KvCache(decoder.tensor, decoder.dimensions, layer);
  }

  async prefill({ embeddings, length, visual, spans }: Prompt, planner: PromptPlanner): Promise<Prefill> {
    const { hidden, promptAttention } = this.#sessions.names;
    const outputs = await this.#runLower(embeddings, length, visual);
    const signals = this.#signals.map((request, i) => {
      const attention = floats(outputs, promptAttention[i]); // [1, length]
      return { ...request, values: Float32Array.from(visual, (place) => attention[place]) };
    });
    const plans = await planner(spans, signals);
    const logits = await this.#runUpper(reducePrompt(floats(outputs, hidden), length, visual, plans));
    return { logits, plans };
  }

  async append(embedding: Float32Array): Promise<Float32Array> {
    const positions = [this.length];
    const outputs = await this.#runLower(embedding, 1, []);
    return this.#runUpper({ hidden: floats(outputs, this.#sessions.names.hidden), positions });
  }

  kvBytesPerLayer(): number[] {
    return [...this.#lowerCache.bytesPerLayer(), ...this.#upperCache.bytesPerLayer()];
  }

  async #runLower(
    embeddings: Float32Array,
    count: number,
    visual: readonly number[],
  ): Promise<Record<string, Tensor>> {
    const { tensor } = this.#decoder;
    const { lower, names } = this.#sessions;
    const cache = this.#lowerCache.next(() => count);
    const feeds = taken(lower, {
      ...embeddingFeeds(tensor, embeddings, this.length, count),
      [names.visualTokens]: () => vector(tensor, visual),
    });
    const signals = visual.length > 0 ? names.promptAttention : [];
    const outputs = await run(
      lower,
      { ...feeds, ...cache.feeds },
      { [names.hidden]: null, ...Object.fromEntries(signals.map((name) => [name, null])), ...cache.outputs },
    );
    cache.done();
    this.length += count;
    return outputs;
  }

  async #runUpper({ hidden, positions }: Crossing): Promise<Float32Array> {
    const { tensor } = this.#decoder;
    const { upper, names } = this.#sessions;
    const count = positions.length;
    const cache = this.#upperCache.next(() => count);
    this.#upperLength += count;
    const feeds = taken(upper, {
      [names.hidden]: () => new tensor('float32', hidden, [1, count, hidden.length / count]),
      attention_mask: () => ones(tensor, this.#upperLength),
      position_ids: () => matrix(tensor, positions),
      ...headFeeds(tensor),
    });
    const outputs = await run(upper, { ...feeds, ...cache.feeds }, { logits: null, ...cache.outputs });
    cache.done();
    return lastLogits(outputs);
  }
}

/** Of the hidden states [length, D] those that go on: text, and what the plans leave, each where its anchor stood (of one anchor, in the plan's order). */
function reducePrompt(
  hidden: Float32Array,
  length: number,
  visual: readonly number[],
  plans: readonly ReductionPlan[],
): Crossing {
  const width = hidden.length / length;
  const rowOf = (rows: Float32Array, i: number): Float32Array => rows.subarray(i * width, (i + 1) * width);
  const tokens = new Float32Array(visual.length * width);
  for (const [i, place] of visual.entries()) tokens.set(rowOf(hidden, place), i * width);
  let reduced: Float32Array = tokens; // [M, D]
  let places: readonly number[] = visual;
  for (const plan of plans) {
    reduced = applyPlan(plan, reduced);
    const before = places;
    places = Array.from(plan.anchors, (anchor) => before[anchor]);
  }
  const isVisual = new Set(visual);
  const staying = Array.from({ length }, (_, place) => ({ place, row: rowOf(hidden, place) }));
  const outputs = places.map((place, m) => ({ place, row: rowOf(reduced, m) }));
  const crossing = [...staying.filter(({ place }) => !isVisual.has(place)), ...outputs].sort(
    (a, b) => a.place - b.place,
  );
  const result = new Float32Array(crossing.length * width);
  for (const [i, { row }] of crossing.entries()) result.set(row, i * width);
  return { hidden: result, positions: crossing.map(({ place }) => place) };
}
