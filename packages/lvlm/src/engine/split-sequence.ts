/**
 * A prompt and its answer on their way through a decoder in several graphs: between them any reducer decides,
 * in the caller's thread.
 */
import { applyPlan, type GivenSignal, type ReductionPlan, type Span } from '@foveate/core';
import type { DecoderPart } from '@foveate/onnx-graph';
import type { InferenceSession, Tensor } from 'onnxruntime-common';
import type { InnerSite } from './api.js';
import { KvCache } from './kv-cache.js';
import {
  embeddingFeeds,
  headFeeds,
  lastLogits,
  nextPosition,
  ones,
  positionIds,
  taken,
  vector,
  type DecoderSession,
  type Past,
  type Position,
  type Prefill,
  type Prompt,
  type PromptPlanner,
  type Sequence,
} from './sequence.js';
import { floats, run } from './sessions.js';

/** An open part, see splitDecoder of @foveate/onnx-graph. */
export type PartSession = Omit<DecoderPart, 'model'> & { readonly session: InferenceSession };

/** A part on the way of a sequence. */
interface Stage extends PartSession {
  readonly cache: KvCache;
}

/** Rows that go into a part: tokens of one run. */
interface Rows {
  /** [positions.length, D] */
  readonly hidden: Float32Array;
  /** Of each. */
  readonly positions: readonly Position[];
  /** Places [V] of the visual tokens among them, ascending. */
  readonly visual: readonly number[];
  /** The run of visual tokens that each image has among the V. */
  readonly spans: readonly Span[];
}

/** A sequence in several graphs. */
export class SplitSequence implements Sequence {
  length: number;
  #next: number;
  readonly #tensor: typeof Tensor;
  readonly #stages: readonly Stage[];
  readonly #sites: readonly InnerSite[];

  /**
   * @param parts one more than there are sites, each but the last ending before a site's layer
   * @param past what to go on behind; null: nothing
   */
  constructor(
    { tensor, dimensions }: Omit<DecoderSession, 'session'>,
    parts: readonly PartSession[],
    sites: readonly InnerSite[],
    past: Past | null,
  ) {
    this.#tensor = tensor;
    this.#sites = sites;
    this.length = past?.length ?? 0;
    this.#next = past?.next ?? 0;
    this.#stages = parts.map((part, i) => ({
      ...part,
      cache: past?.caches[i].fork(0) ?? new KvCache(tensor, dimensions, part.first, part.end),
    }));
  }

  async prefill({ embeddings, positions, visual, spans }: Prompt, planner: PromptPlanner): Promise<Prefill> {
    const plans: ReductionPlan[] = [];
    const outputs = await this.#run(
      { hidden: embeddings, positions, visual, spans },
      async (rows, { layer, signals }, given) => {
        const made = await planner(
          layer,
          rows.spans,
          signals.map((request, i): GivenSignal => ({
            ...request,
            values: Float32Array.from(rows.visual, (place) => given[i][place]),
          })),
        );
        plans.push(...made);
        return reduceRows(rows, made);
      },
    );
    return { logits: lastLogits(outputs), plans };
  }

  async append(
    embeddings: Float32Array,
    positions: readonly Position[] = [[this.#next]],
  ): Promise<Float32Array> {
    const tokens = { hidden: embeddings, positions, visual: [], spans: [] };
    return lastLogits(await this.#run(tokens, async (rows) => rows));
  }

  past(): Past {
    return { length: this.length, next: this.#next, caches: this.#stages.map(({ cache }) => cache.fork(0)) };
  }

  kvBytesPerLayer(): number[] {
    return this.#stages.flatMap(({ cache }) => cache.bytesPerLayer());
  }

  /**
   * Runs tokens through all parts.
   * @param between what becomes of the rows before a site's layer, by its signals [V']
   * @returns outputs of the last part
   */
  async #run(
    rows: Rows,
    between: (rows: Rows, site: InnerSite, signals: readonly Float32Array[]) => Promise<Rows>,
  ): Promise<Record<string, Tensor>> {
    const { length } = this;
    this.length += rows.positions.length;
    this.#next = nextPosition(rows.positions);
    let outputs: Record<string, Tensor> = {};
    let entering = rows;
    for (const [i, stage] of this.#stages.entries()) {
      outputs = await this.#runStage(stage, entering, length);
      if (stage.output === null) break;
      const attention = entering.visual.length > 0 ? stage.promptAttention : [];
      const signals = attention.map((name) => floats(outputs, name)); // [1, positions.length] each
      entering = await between(
        { ...entering, hidden: floats(outputs, stage.output) },
        this.#sites[i],
        signals,
      );
    }
    return outputs;
  }

  /** @param before tokens run before these */
  async #runStage(stage: Stage, rows: Rows, before: number): Promise<Record<string, Tensor>> {
    const tensor = this.#tensor;
    const { session, input, output, visualTokens, promptAttention } = stage;
    const { hidden, positions, visual } = rows;
    const count = positions.length;
    const cache = stage.cache.next(() => count);
    const feeds = taken(session, {
      ...(input === null
        ? embeddingFeeds({ session, tensor }, hidden, before, positions)
        : {
            [input]: () => new tensor('float32', hidden, [1, count, hidden.length / count]),
            attention_mask: () => ones(tensor, stage.cache.length),
            position_ids: () => positionIds({ session, tensor }, positions),
          }),
      ...(visualTokens !== null && { [visualTokens]: () => vector(tensor, visual) }),
      ...headFeeds(tensor),
    });
    const wanted = [output ?? 'logits', ...(visual.length > 0 ? promptAttention : [])];
    const outputs = await run(
      session,
      { ...feeds, ...cache.feeds },
      { ...Object.fromEntries(wanted.map((name) => [name, null])), ...cache.outputs },
    );
    cache.done();
    return outputs;
  }
}

/**
 * Of the rows those that go on: text, and what the plans leave, each where its anchor stood (of one anchor,
 * in the plan's order).
 */
function reduceRows({ hidden, positions, visual, spans }: Rows, plans: readonly ReductionPlan[]): Rows {
  const width = hidden.length / positions.length;
  const rowOf = (rows: Float32Array, i: number): Float32Array => rows.subarray(i * width, (i + 1) * width);
  const tokens = new Float32Array(visual.length * width);
  for (const [i, place] of visual.entries()) tokens.set(rowOf(hidden, place), i * width);
  let reduced: Float32Array = tokens; // [M, D]
  let anchors = Array.from(visual.keys());
  for (const plan of plans) {
    reduced = applyPlan(plan, reduced);
    const before = anchors;
    anchors = Array.from(plan.anchors, (anchor) => before[anchor]);
  }
  const isVisual = new Set(visual);
  const text = Array.from(positions.keys())
    .filter((place) => !isVisual.has(place))
    .map((place) => ({ place, row: rowOf(hidden, place), token: null }));
  const left = anchors.map((token, m) => ({ place: visual[token], row: rowOf(reduced, m), token }));
  const going = [...text, ...left].sort((a, b) => a.place - b.place);
  const result = new Float32Array(going.length * width);
  for (const [i, { row }] of going.entries()) result.set(row, i * width);
  return {
    hidden: result,
    positions: going.map(({ place }) => positions[place]),
    visual: going.flatMap(({ token }, i) => (token === null ? [] : [i])),
    spans: spansOf(anchors, spans),
  };
}

/** The runs of the images among the tokens that are left, one after the other in the images' order. */
function spansOf(anchors: readonly number[], spans: readonly Span[]): Span[] {
  let start = 0;
  return spans.map((span) => {
    const length = anchors.filter((a) => a >= span.start && a < span.start + span.length).length;
    start += length;
    return { start: start - length, length };
  });
}
