/** A prompt and its answer on their way through a decoder that is one graph: the bundle's own, or one patched to drop visual tokens before a layer. */
import { selectionPlan, type GivenSignal, type ReductionPlan, type Span } from '@foveate/core';
import type { InferenceSession, Tensor } from 'onnxruntime-common';
import { KvCache } from './kv-cache.js';
import type { ModelDimensions } from './api.js';
import { floats, run } from './sessions.js';

/** What the decoder reads first. */
export interface Prompt {
  /** [length, D], visual tokens among them. */
  readonly embeddings: Float32Array;
  readonly length: number;
  /** Places [V] of the visual tokens, ascending. */
  readonly visual: readonly number[];
  /** The run of visual tokens that each image has among the V. */
  readonly spans: readonly Span[];
}

/** What the first run gives. */
export interface Prefill {
  /** Behind the prompt's last token. [vocabulary] */
  readonly logits: Float32Array;
  /** What became of the visual tokens inside the decoder, one reducer after the other. */
  readonly plans: readonly ReductionPlan[];
}

/** Has the reducers inside the language model decide, in the caller's thread. */
export type PromptPlanner = (
  spans: readonly Span[],
  signals: readonly GivenSignal[],
) => Promise<readonly ReductionPlan[]>;

/** Tokens that went through the decoder, with their keys and values. */
export interface Sequence {
  /** Tokens run, dropped ones included: the position of the next one. */
  readonly length: number;
  /** Runs the prompt, before anything else. The planner is asked where the graph does not choose by itself. */
  prefill(prompt: Prompt, planner: PromptPlanner): Promise<Prefill>;
  /**
   * Runs one more token.
   * @param embedding [D]
   * @returns logits [vocabulary] behind it
   */
  append(embedding: Float32Array): Promise<Float32Array>;
  /** Bytes of the keys and values of each layer. */
  kvBytesPerLayer(): number[];
}

/** A session, and what it needs to be fed. */
export interface DecoderSession {
  readonly session: InferenceSession;
  readonly tensor: typeof Tensor;
  readonly dimensions: ModelDimensions;
}

/** How the graph drops tokens, see pruneAtLayer of @foveate/onnx-graph. */
export interface Pruning {
  /** K */
  readonly layer: number;
  /** Names of the graph's further inputs and outputs. */
  readonly names: { readonly visualTokens: string; readonly keepCount: string; readonly keptTokens: string };
  /** How many visual tokens stay; fewer than there are. */
  readonly count: number;
  /** For the plan. */
  readonly warnings: readonly string[];
}

/** What the graph is fed, by the name of the input; it takes what it has inputs for. */
export type Feeds = Readonly<Record<string, () => Tensor>>;

/** A sequence in one graph. */
export class SingleGraphSequence implements Sequence {
  length = 0;
  readonly #decoder: DecoderSession;
  readonly #pruning: Pruning | null;
  readonly #unpruned: ReductionPlan | null;
  readonly #cache: KvCache;

  /** @param unpruned the plan to report where the graph drops nothing */
  constructor(decoder: DecoderSession, pruning: Pruning | null, unpruned: ReductionPlan | null = null) {
    this.#decoder = decoder;
    this.#pruning = pruning;
    this.#unpruned = unpruned;
    this.#cache = new KvCache(decoder.tensor, decoder.dimensions);
  }

  async prefill({ embeddings, length, visual }: Prompt): Promise<Prefill> {
    const outputs = await this.#run(embeddings, length, visual);
    const plan = this.#pruning ? keptPlan(outputs, this.#pruning, visual) : this.#unpruned;
    return { logits: lastLogits(outputs), plans: plan ? [plan] : [] };
  }

  async append(embedding: Float32Array): Promise<Float32Array> {
    return lastLogits(await this.#run(embedding, 1, []));
  }

  kvBytesPerLayer(): number[] {
    return this.#cache.bytesPerLayer();
  }

  /** Runs `count` tokens, of which the visual ones may be dropped. */
  async #run(
    embeddings: Float32Array,
    count: number,
    visual: readonly number[],
  ): Promise<Record<string, Tensor>> {
    const { session, tensor } = this.#decoder;
    const pruning = this.#pruning;
    const dropped = pruning && visual.length > 0 ? visual.length - pruning.count : 0;
    const cache = this.#cache.next((layer) => (pruning && layer >= pruning.layer ? count - dropped : count));
    const { length } = this;
    const feeds: Feeds = {
      ...embeddingFeeds(tensor, embeddings, length, count),
      ...headFeeds(tensor),
      ...(pruning && {
        [pruning.names.visualTokens]: () => vector(tensor, visual),
        [pruning.names.keepCount]: () => vector(tensor, [pruning.count]),
      }),
    };
    const wanted = pruning && dropped > 0 ? { [pruning.names.keptTokens]: null } : {};
    const outputs = await run(
      session,
      { ...taken(session, feeds), ...cache.feeds },
      { logits: null, ...wanted, ...cache.outputs },
    );
    cache.done();
    this.length += count;
    return outputs;
  }
}

/** Inputs of the part before the first layer, for `count` tokens from position `start` on. */
export function embeddingFeeds(
  tensor: typeof Tensor,
  embeddings: Float32Array,
  start: number,
  count: number,
): Feeds {
  return {
    inputs_embeds: () => new tensor('float32', embeddings, [1, count, embeddings.length / count]),
    attention_mask: () => ones(tensor, start + count),
    position_ids: () =>
      matrix(
        tensor,
        Array.from({ length: count }, (_, i) => start + i),
      ),
    use_cache_branch: () => new tensor('bool', [start > 0], [1]),
  };
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

/** [1, values.length] */
export function matrix(tensor: typeof Tensor, values: readonly number[]): Tensor {
  return new tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length]);
}

/** [values.length] */
export function vector(tensor: typeof Tensor, values: readonly number[]): Tensor {
  return new tensor('int64', BigInt64Array.from(values, BigInt), [values.length]);
}

/** The plan that the graph carried out: which visual tokens are among the places [S'] that it kept. */
function keptPlan(
  outputs: Record<string, Tensor>,
  { names, warnings }: Pruning,
  visual: readonly number[],
): ReductionPlan {
  const places = new Set(Array.from(outputs[names.keptTokens].data as BigInt64Array, Number));
  const kept = Array.from(visual.keys()).filter((token) => places.has(visual[token]));
  return selectionPlan(kept, visual.length, { warnings });
}
