/** A prompt and its answer on their way through a decoder whose attention to visual tokens is calibrated. */
import type { Calibration } from '@foveate/core';
import type { BiasedDecoder } from '@foveate/onnx-graph';
import type { Tensor } from 'onnxruntime-common';
import { laterBiases, promptBiases, type Biases, type SizedTokens } from './calibration.js';
import { KvCache } from './kv-cache.js';
import {
  embeddingFeeds,
  headFeeds,
  lastLogits,
  nextPosition,
  taken,
  type DecoderSession,
  type Past,
  type Position,
  type Prefill,
  type Prompt,
  type Sequence,
} from './sequence.js';
import { run } from './sessions.js';

/** The decoder in one graph that takes biases. */
export interface BiasedSession extends DecoderSession {
  readonly names: Omit<BiasedDecoder, 'model'>;
  /** Of the rotary positions. */
  readonly frequencies: readonly number[];
}

/** A sequence whose visual tokens have sizes. */
export class CalibratedSequence implements Sequence {
  length = 0;
  #next = 0;
  readonly #decoder: BiasedSession;
  readonly #calibration: Calibration;
  readonly #tokens: SizedTokens;
  readonly #cache: KvCache;

  constructor(decoder: BiasedSession, calibration: Calibration, tokens: SizedTokens) {
    this.#decoder = decoder;
    this.#calibration = calibration;
    this.#tokens = tokens;
    this.#cache = new KvCache(decoder.tensor, decoder.dimensions);
  }

  async prefill({ embeddings, positions }: Prompt): Promise<Prefill> {
    const biases = promptBiases(this.#tokens, positions, this.#calibration, this.#decoder.frequencies);
    return { logits: await this.#run(embeddings, positions, biases), plans: [], warnings: [] };
  }

  append(embeddings: Float32Array, positions: readonly Position[] = [[this.#next]]): Promise<Float32Array> {
    const total = this.length + positions.length;
    const biases = laterBiases(this.#tokens, this.#calibration, positions.length, total);
    return this.#run(embeddings, positions, biases);
  }

  past(): Past {
    return { length: this.length, next: this.#next, caches: [this.#cache.fork(0)], shifts: [0] };
  }

  kvBytesPerLayer(): number[] {
    return this.#cache.bytesPerLayer();
  }

  /** @returns logits [vocabulary] behind the last */
  async #run(
    embeddings: Float32Array,
    positions: readonly Position[],
    { first, later }: Biases,
  ): Promise<Float32Array> {
    const { session, tensor, names } = this.#decoder;
    const count = positions.length;
    const cache = this.#cache.next(() => count);
    const bias = (data: Float32Array) => (): Tensor =>
      new tensor('float32', data, [1, 1, count, data.length / count]);
    const feeds = taken(session, {
      ...embeddingFeeds(this.#decoder, embeddings, this.length, positions),
      ...headFeeds(tensor),
      [names.firstBias]: bias(first),
      [names.laterBias]: bias(later),
    });
    const outputs = await run(session, { ...feeds, ...cache.feeds }, { logits: null, ...cache.outputs });
    cache.done();
    this.length += count;
    this.#next = nextPosition(positions);
    return lastLogits(outputs);
  }
}
