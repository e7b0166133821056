/**
 * A prompt and its answer on their way through a decoder that is one graph: the bundle's own, or one patched
 * to drop visual tokens before a layer.
 */
import { selectionPlan, type GivenSignal, type ReductionPlan, type Span } from '@foveate/core';
import type { PruningNames } from '@foveate/onnx-graph';
import type { InferenceSession, Tensor } from 'onnxruntime-common';
import { KvCache } from './kv-cache.js';
import type { ModelDimensions } from './api.js';
import { floats, run } from './sessions.js';

/**
 * Where a token stands: its number, or its frame, line and column where positions have three dimensions.
 */
export type Position = readonly number[];

/** What the decoder reads first. */
export interface Prompt {
  /** [length, D], visual tokens among them. */
  readonly embeddings: Float32Array;
  readonly length: number;
  /** Of each token. */
  readonly positions: readonly Position[];
  /** Places [V] of the visual tokens, ascending. */
  readonly visual: readonly number[];
  /** The run of visual tokens that each image has among the V. */
  readonly spans: readonly Span[];
}

/** What the first run gives. */
export interface Prefill {
  /** Behind the prompt's last token. [vocabulary] */
  readonly logits: Float32Array;
  /** What became of the visual tokens inside the decoder, site by site and reducer by reducer. */
  readonly plans: readonly ReductionPlan[];
  /** What the user should know of them, one sentence each. */
  readonly warnings: readonly string[];
}

/** The visual tokens that are left before a layer of the language model. */
interface TokensBeforeLayer {
  readonly layer: number;
  /** Where they stand among all tokens there, ascending. */
  readonly places: readonly number[];
  /** The run of them that each image has. */
  readonly spans: readonly Span[];
  /** What the graph gives of them, and of the question. */
  readonly signals: readonly GivenSignal[];
}

/** Has the reducers before a layer of the language model decide, in the caller's thread. */
export type PromptPlanner = (tokens: TokensBeforeLayer) => Promise<readonly ReductionPlan[]>;

/** Tokens that went through the decoder, with their keys and values. */
export interface Sequence {
  /** Tokens run, dropped ones included. */
  readonly length: number;
  /**
   * Runs the prompt, before anything else. The planner is asked where the graph does not choose by itself.
   */
  prefill(prompt: Prompt, planner: PromptPlanner): Promise<Prefill>;
  /**
   * Runs more tokens, all of which stay.
   * @param embeddings [count, D]
   * @param positions of each; default one token, behind those that were run
   * @returns logits [vocabulary] behind the last
   */
  append(embeddings: Float32Array, positions?: readonly Position[]): Promise<Float32Array>;
  /** What was run so far; what is run later does not change it. */
  past(): Past;
  /** Bytes of the keys and values of each layer. */
  kvBytesPerLayer(): number[];
}

/** Tokens that went through a decoder, for a sequence that goes on behind them. */
export interface Past {
  /** Tokens run, dropped ones included. */
  readonly length: number;
  /** Position of the token behind them, in the first graph of the decoder. */
  readonly next: number;
  /** One a graph of the decoder. */
  readonly caches: readonly KvCache[];
  /** How much lower positions are in each of the graphs, where tokens before them were counted anew. */
  readonly shifts: readonly number[];
}

/** The first `length` tokens of a past; no visual token behind them was dropped. */
export function firstOf({ caches, shifts, length: all }: Past, length: number, next: number): Past {
  return { length, next, shifts, caches: caches.map((cache) => cache.fork(all - length)) };
}

/** A session, and what it needs to be fed. */
export interface DecoderSession {
  readonly session: InferenceSession;
  readonly tensor: typeof Tensor;
  readonly dimensions: ModelDimensions;
}

/** How the graph drops tokens before one layer, see pruneDecoder of @foveate/onnx-graph. */
interface Pruning {
  /** K */
  readonly layer: number;
  /** Names of the graph's further inputs and outputs. */
  readonly names: PruningNames;
  /** How many visual tokens stay. */
  readonly count: number;
  /** For the plan. */
  readonly warnings: readonly string[];
}

/** How the graph drops tokens. */
export interface Prunings {
  /** Name of the graph's input of their places. */
  readonly visualTokens: string;
  /** By ascending layer. */
  readonly sites: readonly Pruning[];
}

/** What the graph is fed, by the name of the input; it takes what it has inputs for. */
export type Feeds = Readonly<Record<string, () => Tensor>>;

/** A sequence in one graph. */
export class SingleGraphSequence implements Sequence {
  length: number;
  #next: number;
  readonly #decoder: DecoderSession;
  readonly #prunings: Prunings | null;
  readonly #unpruned: readonly ReductionPlan[];
  readonly #cache: KvCache;

  /**
   * @param unpruned the plans to report where the graph drops nothing
   * @param past what to go on behind; null: nothing
   */
  constructor(
    decoder: DecoderSession,
    prunings: Prunings | null,
    unpruned: readonly ReductionPlan[],
    past: Past | null,
  ) {
    this.#decoder = decoder;
    this.#prunings = prunings;
    this.#unpruned = unpruned;
    this.length = past?.length ?? 0;
    this.#next = past?.next ?? 0;
    this.#cache = past?.caches[0].fork(0) ?? new KvCache(decoder.tensor, decoder.dimensions);
  }

  async prefill({ embeddings, positions, visual }: Prompt): Promise<Prefill> {
    const outputs = await this.#run(embeddings, positions, visual);
    const plans = this.#prunings ? keptPlans(outputs, this.#prunings.sites, visual) : this.#unpruned;
    return { logits: lastLogits(outputs), plans, warnings: [] };
  }

  async append(
    embeddings: Float32Array,
    positions: readonly Position[] = [[this.#next]],
  ): Promise<Float32Array> {
    return lastLogits(await this.#run(embeddings, positions, []));
  }

  past(): Past {
    return { length: this.length, next: this.#next, caches: [this.#cache.fork(0)], shifts: [0] };
  }

  kvBytesPerLayer(): number[] {
    return this.#cache.bytesPerLayer();
  }

  /** Runs tokens, of which the visual ones may be dropped. */
  async #run(
    embeddings: Float32Array,
    positions: readonly Position[],
    visual: readonly number[],
  ): Promise<Record<string, Tensor>> {
    const { session, tensor } = this.#decoder;
    const count = positions.length;
    const sites = this.#prunings?.sites ?? [];
    const cache = this.#cache.next((layer) => {
      const last = sites.findLast((site) => site.layer <= layer);
      return last && visual.length > 0 ? count - visual.length + last.count : count;
    });
    const { length } = this;
    const feeds: Feeds = {
      ...embeddingFeeds(this.#decoder, embeddings, length, positions),
      ...headFeeds(tensor),
      ...(this.#prunings && { [this.#prunings.visualTokens]: () => vector(tensor, visual) }),
      ...Object.fromEntries(
        sites.map(({ names, count: kept }) => [names.keepCount, () => vector(tensor, [kept])]),
      ),
    };
    const kept = visual.length > 0 ? sites.map(({ names }) => [names.keptTokens, null] as const) : [];
    const outputs = await run(
      session,
      { ...taken(session, feeds), ...cache.feeds },
      { logits: null, ...Object.fromEntries(kept), ...cache.outputs },
    );
    cache.done();
    this.length += count;
    this.#next = nextPosition(positions);
    return outputs;
  }
}

/** Inputs of the part before the first layer, for tokens behind `cached` others. */
export function embeddingFeeds(
  decoder: Pick<DecoderSession, 'session' | 'tensor'>,
  embeddings: Float32Array,
  cached: number,
  positions: readonly Position[],
): Feeds {
  const { tensor } = decoder;
  const count = positions.length;
  return {
    inputs_embeds: () => new tensor('float32', embeddings, [1, count, embeddings.length / count]),
    attention_mask: () => ones(tensor, cached + count),
    position_ids: () => positionIds(decoder, positions),
    use_cache_branch: () => new tensor('bool', [cached > 0], [1]),
  };
}

/** The position of the token behind all of these. */
export function nextPosition(positions: readonly Position[]): number {
  return positions.reduce((most, position) => Math.max(most, ...position), -1) + 1;
}

/**
 * [1, S], or [3, 1, S] where the session takes positions of three dimensions, which are all the same for
 * text.
 */
export function positionIds(
  { session, tensor }: Pick<DecoderSession, 'session' | 'tensor'>,
  positions: readonly Position[],
): Tensor {
  const input = session.inputMetadata.find(({ name }) => name === 'position_ids');
  const axes = input?.isTensor && input.shape.length === 3 ? 3 : 1;
  const count = positions.length;
  const ids = new BigInt64Array(axes * count);
  for (let axis = 0; axis < axes; axis++) {
    for (const [i, position] of positions.entries())
      ids[axis * count + i] = BigInt(position[axis] ?? position[0]);
  }
  return new tensor('int64', ids, axes === 1 ? [1, count] : [axes, 1, count]);
}

/** Inputs of the part behind the last layer. */
export function headFeeds(tensor: typeof Tensor): Feeds {
  return { num_logits_to_keep: () => new tensor('int64', [1n], []) };
}

/** Of the feeds those that the session takes. */
export function taken(session: InferenceSession, feeds: Feeds): Record<string, Tensor> {
  const inputs = new Set(session.inputNames);
  return Object.fromEntries(
    Object.entries(feeds).flatMap(([name, make]) => (inputs.has(name) ? [[name, make()]] : [])),
  );
}

/** The last row [vocabulary] of the logits [1, 1 or more, vocabulary]. */
export function lastLogits(outputs: Record<string, Tensor>): Float32Array {
  const logits = floats(outputs, 'logits');
  return logits.subarray(logits.length - (outputs.logits.dims.at(-1) ?? 0));
}

/** [1, count] */
export function ones(tensor: typeof Tensor, count: number): Tensor {
  return new tensor('int64', new BigInt64Array(count).fill(1n), [1, count]);
}

/** [values.length] */
export function vector(tensor: typeof Tensor, values: readonly number[]): Tensor {
  return new tensor('int64', BigInt64Array.from(values, BigInt), [values.length]);
}

/**
 * The plans that the graph carried out: at each site, which visual tokens are among the places [S'] of all
 * tokens that it kept.
 */
function keptPlans(
  outputs: Record<string, Tensor>,
  sites: readonly Pruning[],
  visual: readonly number[],
): ReductionPlan[] {
  let before = visual;
  return sites.map(({ names, warnings }) => {
    const places = Array.from(outputs[names.keptTokens].data as BigInt64Array, Number);
    const placeOf = new Map(places.map((old, place) => [old, place]));
    const kept = Array.from(before.keys()).filter((token) => placeOf.has(before[token]));
    const plan = selectionPlan(kept, before.length, { warnings });
    before = before.flatMap((old) => placeOf.get(old) ?? []);
    return plan;
  });
}
