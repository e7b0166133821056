/**
 * A prompt and its answer on their way through a decoder in several graphs: between them any reducer decides,
 * in the caller's thread.
 */
import { applyPlan, type GivenSignal, type ReductionPlan, type Span } from '@foveate/core';
import type { DecoderPart } from '@foveate/onnx-graph';
import type { InferenceSession, Tensor } from 'onnxruntime-common';
import type { InnerSite } from './api.js';
import { KvCache } from './kv-cache.js';
import { questionLength } from './prompt-signals.js';
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
  /** How many of the last tokens are the question's. */
  readonly question: number;
}

/** Of positions of several axes no count makes other ones. */
const SEVERAL_AXES =
  'Positions of this model have several axes, so that visual tokens keep theirs, where a reducer inside the language model would count them anew.';

/** A sequence in several graphs. */
export class SplitSequence implements Sequence {
  length: number;
  #next: number;
  /** Of each part, see {@link Past.shifts}. */
  #shifts: readonly number[];
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
    this.#shifts = past?.shifts ?? parts.map(() => 0);
    this.#stages = parts.map((part, i) => ({
      ...part,
      cache: past?.caches[i].fork(0) ?? new KvCache(tensor, dimensions, part.first, part.end),
    }));
  }

  async prefill(prompt: Prompt, planner: PromptPlanner): Promise<Prefill> {
    const { embeddings, positions, visual, spans } = prompt;
    const plans: ReductionPlan[] = [];
    const shifts = [0];
    const hasAxes = positions.some(({ length }) => length > 1);
    const rows = { hidden: embeddings, positions, visual, spans, question: questionLength(prompt) };
    const outputs = await this.#run(rows, async (before, cut, signals) => {
      const { layer, positions: kind } = this.#sites[cut];
      const { visual: places, spans: runs } = before;
      const made = await planner({ layer, places, spans: runs, signals });
      plans.push(...made);
      const left = reduceRows(before, made, kind === 'renumbered');
      const count = left.positions.length;
      const isCounted = kind === 'renumbered' && !hasAxes;
      shifts.push(isCounted ? this.#next - count : shifts[cut]);
      return isCounted ? { ...left, positions: Array.from({ length: count }, (_, i) => [i]) } : left;
    });
    this.#shifts = shifts;
    const isKept = hasAxes && this.#sites.some((site) => site.positions === 'renumbered');
    return { logits: lastLogits(outputs), plans, warnings: isKept ? [SEVERAL_AXES] : [] };
  }

  async append(
    embeddings: Float32Array,
    positions: readonly Position[] = [[this.#next]],
  ): Promise<Float32Array> {
    const tokens = { hidden: embeddings, positions, visual: [], spans: [], question: 1 };
    const outputs = await this.#run(tokens, async (rows, cut) => {
      const shift = this.#shifts[cut + 1];
      return { ...rows, positions: positions.map((axes) => axes.map((axis) => axis - shift)) };
    });
    return lastLogits(outputs);
  }

  past(): Past {
    const caches = this.#stages.map(({ cache }) => cache.fork(0));
    return { length: this.length, next: this.#next, caches, shifts: this.#shifts };
  }

  kvBytesPerLayer(): number[] {
    return this.#stages.flatMap(({ cache }) => cache.bytesPerLayer());
  }

  /**
   * Runs tokens through all parts.
   * @param between what becomes of the rows at the cut of that number, by what the part before it gives
   * @returns outputs of the last part
   */
  async #run(
    rows: Rows,
    between: (rows: Rows, cut: number, signals: readonly GivenSignal[]) => Promise<Rows>,
  ): Promise<Record<string, Tensor>> {
    const { length } = this;
    this.length += rows.positions.length;
    this.#next = nextPosition(rows.positions);
    let outputs: Record<string, Tensor> = {};
    let entering = rows;
    for (const [cut, stage] of this.#stages.entries()) {
      outputs = await this.#runStage(stage, entering, length);
      if (stage.output === null) break;
      const given = entering.visual.length > 0 ? this.#sites[cut].signals : [];
      const signals = given.map((request, i) => ({ ...request, values: floats(outputs, stage.signals[i]) }));
      entering = await between({ ...entering, hidden: floats(outputs, stage.output) }, cut, signals);
    }
    return outputs;
  }

  /** @param before tokens run before these */
  async #runStage(stage: Stage, rows: Rows, before: number): Promise<Record<string, Tensor>> {
    const tensor = this.#tensor;
    const { session, input, output, visualTokens, questionTokens, signals } = stage;
    const { hidden, positions, visual, question } = rows;
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
      ...(questionTokens !== null && { [questionTokens]: () => vector(tensor, [question]) }),
      ...headFeeds(tensor),
    });
    const wanted = [output ?? 'logits', ...(visual.length > 0 ? signals : [])];
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
 * @param inOrder whether the outputs of an image stand in the plan's order: none before the place of one that
 * the plan has before it
 */
function reduceRows(rows: Rows, plans: readonly ReductionPlan[], inOrder: boolean): Rows {
  const { hidden, positions, visual, spans } = rows;
  const width = hidden.length / positions.length;
  const rowOf = (from: Float32Array, i: number): Float32Array => from.subarray(i * width, (i + 1) * width);
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
    .map((place) => ({ place, position: positions[place], row: rowOf(hidden, place), isToken: false }));
  const places = inOrder ? placesInOrder(anchors, rows) : anchors.map((token) => visual[token]);
  const left = anchors.map((token, m) => ({
    place: places[m],
    position: positions[visual[token]],
    row: rowOf(reduced, m),
    isToken: true,
  }));
  const going = [...text, ...left].sort((a, b) => a.place - b.place);
  const result = new Float32Array(going.length * width);
  for (const [i, { row }] of going.entries()) result.set(row, i * width);
  return {
    ...rows,
    hidden: result,
    positions: going.map(({ position }) => position),
    visual: going.flatMap(({ isToken }, i) => (isToken ? [i] : [])),
    spans: spansOf(anchors, spans),
  };
}

/** Of each output the furthest place of an anchor of its image up to it. */
function placesInOrder(anchors: readonly number[], { visual, spans }: Rows): number[] {
  const furthest = spans.map(() => 0);
  return anchors.map((token) => {
    const image = spans.findIndex(({ start, length }) => token < start + length);
    furthest[image] = Math.max(furthest[image], visual[token]);
    return furthest[image];
  });
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
