/** The language model: embeddings, and a decoder whose keys and values stay in buffers that two runs take turns to write. */
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import type { GraphName } from './bundle.js';
import { BundleError } from './errors.js';
import { loadOnnxRuntime } from './native.js';
import type { DecoderDimensions } from './protocol.js';
import { floats, openSession, run } from './sessions.js';

const PAST = 'past_key_values.';
const PRESENT = 'present.';
const INPUTS = ['inputs_embeds', 'attention_mask', 'position_ids', 'num_logits_to_keep', 'use_cache_branch'];

type TensorConstructor = typeof Tensor;

/** The two graphs of the language model. */
export class Decoder {
  readonly dimensions: DecoderDimensions;
  readonly #embedding: InferenceSession;
  readonly #decoder: InferenceSession;
  readonly #tensor: TensorConstructor;

  private constructor(embedding: InferenceSession, decoder: InferenceSession, tensor: TensorConstructor) {
    this.#embedding = embedding;
    this.#decoder = decoder;
    this.#tensor = tensor;
    this.dimensions = readDimensions(decoder);
  }

  /** @throws BundleError, PlatformError */
  static async open(graphs: Readonly<Record<GraphName, string>>, threads: number): Promise<Decoder> {
    const { Tensor } = await loadOnnxRuntime();
    const embedding = await openSession(graphs.embed_tokens, graphs.embed_tokens, threads);
    const decoder = await openSession(graphs.decoder_model_merged, graphs.decoder_model_merged, threads);
    return new Decoder(embedding, decoder, Tensor);
  }

  /** Embeddings [ids.length, D] of token ids. */
  async embed(ids: readonly number[]): Promise<Float32Array> {
    const input = new this.#tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]);
    return floats(await run(this.#embedding, { input_ids: input }), 'inputs_embeds');
  }

  /** A new, empty sequence. */
  start(): Sequence {
    return new Sequence(this.#decoder, this.#tensor, this.dimensions);
  }

  async release(): Promise<void> {
    await this.#embedding.release();
    await this.#decoder.release();
  }
}

/**
 * Tokens that went through the decoder, with their keys and values. onnxruntime writes each run's keys and values into one of two sets of
 * buffers while it reads the other: nothing is copied into JS or allocated a step.
 */
export class Sequence {
  /** Tokens in the cache. */
  length = 0;
  readonly #session: InferenceSession;
  readonly #tensor: TensorConstructor;
  readonly #dimensions: DecoderDimensions;
  readonly #caches: string[];
  #past: Map<string, Tensor>;
  #buffers: [Map<string, ArrayBuffer>, Map<string, ArrayBuffer>] = [
    new Map<string, ArrayBuffer>(),
    new Map<string, ArrayBuffer>(),
  ];

  constructor(session: InferenceSession, tensor: TensorConstructor, dimensions: DecoderDimensions) {
    this.#session = session;
    this.#tensor = tensor;
    this.#dimensions = dimensions;
    this.#caches = session.inputNames
      .filter((name) => name.startsWith(PAST))
      .map((name) => name.slice(PAST.length));
    this.#past = new Map(this.#caches.map((cache) => [cache, this.#cacheTensor(new ArrayBuffer(0), 0)]));
  }

  /**
   * Runs `count` more tokens, at the positions that follow those already run.
   * @param embeddings [count, D]
   * @returns logits [V] after the last of them
   */
  async append(embeddings: Float32Array, count: number): Promise<Float32Array> {
    const total = this.length + count;
    const outputs: Record<string, Tensor | null> = { logits: null };
    const present = new Map(
      this.#caches.map((cache) => [cache, this.#cacheTensor(this.#buffer(cache, total), total)]),
    );
    for (const [cache, tensor] of present) outputs[PRESENT + cache] = tensor;
    const logits = floats(await run(this.#session, this.#feeds(embeddings, count), outputs), 'logits'); // [1, 1 or count, V]
    this.#past = present;
    this.#buffers.reverse();
    this.length = total;
    const rows = this.#session.inputNames.includes('num_logits_to_keep') ? 1 : count;
    return logits.subarray(logits.length - logits.length / rows);
  }

  /** Bytes of the keys and values of each layer. */
  kvBytesPerLayer(): number[] {
    const { layers } = this.#dimensions;
    const bytes = new Array<number>(layers).fill(0);
    for (const [cache, tensor] of this.#past)
      bytes[Number.parseInt(cache)] += (tensor.data as Uint8Array).byteLength;
    return bytes;
  }

  #feeds(embeddings: Float32Array, count: number): Record<string, Tensor> {
    const Tensor = this.#tensor;
    const total = this.length + count;
    const all: Record<string, () => Tensor> = {
      inputs_embeds: () => new Tensor('float32', embeddings, [1, count, embeddings.length / count]),
      attention_mask: () => new Tensor('int64', new BigInt64Array(total).fill(1n), [1, total]),
      position_ids: () =>
        new Tensor(
          'int64',
          BigInt64Array.from({ length: count }, (_, i) => BigInt(this.length + i)),
          [1, count],
        ),
      num_logits_to_keep: () => new Tensor('int64', [1n], []),
      use_cache_branch: () => new Tensor('bool', [this.length > 0], [1]),
    };
    const feeds: Record<string, Tensor> = {};
    for (const [name, make] of Object.entries(all))
      if (this.#session.inputNames.includes(name)) feeds[name] = make();
    for (const [cache, tensor] of this.#past) feeds[PAST + cache] = tensor;
    return feeds;
  }

  /** The buffer to write `total` tokens into; it grows by half, so that a step seldom allocates. */
  #buffer(cache: string, total: number): ArrayBuffer {
    const { kvHeads, headDim, kvBytes } = this.#dimensions;
    const needed = kvHeads * headDim * kvBytes * total;
    const buffers = this.#buffers[0];
    let buffer = buffers.get(cache);
    if (!buffer || buffer.byteLength < needed) {
      buffer = new ArrayBuffer(Math.ceil((needed * 1.5) / kvBytes) * kvBytes);
      buffers.set(cache, buffer);
    }
    return buffer;
  }

  /** The first `tokens` tokens of a buffer: [1, kvHeads, tokens, headDim]. */
  #cacheTensor(buffer: ArrayBuffer, tokens: number): Tensor {
    const { kvHeads, headDim, kvBytes } = this.#dimensions;
    const dims = [1, kvHeads, tokens, headDim];
    const length = kvHeads * tokens * headDim;
    return kvBytes === 4
      ? new this.#tensor('float32', new Float32Array(buffer, 0, length), dims)
      : new this.#tensor('float16', new Uint16Array(buffer, 0, length), dims);
  }
}

/**
 * What the decoder's inputs say of it.
 * @throws BundleError where there are inputs that this runner cannot give, or no cache
 */
function readDimensions(session: InferenceSession): DecoderDimensions {
  const unknown = session.inputNames.find((name) => !name.startsWith(PAST) && !INPUTS.includes(name));
  if (unknown !== undefined)
    throw new BundleError(
      `decoder_model_merged needs the input ${unknown}, which this runner does not know.`,
    );
  const caches = session.inputMetadata.filter(({ name }) => name.startsWith(PAST));
  const names = Array.from({ length: Math.ceil(caches.length / 2) }, (_, layer) => [
    `${layer}.key`,
    `${layer}.value`,
  ]).flat();
  const missing = [
    ...['inputs_embeds', ...names.map((name) => PAST + name)].filter(
      (name) => !session.inputNames.includes(name),
    ),
    ...['logits', ...names.map((name) => PRESENT + name)].filter(
      (name) => !session.outputNames.includes(name),
    ),
  ];
  const first = caches.at(0);
  const [, kvHeads, , headDim] = first?.isTensor ? first.shape : [];
  const type = first?.isTensor ? first.type : undefined;
  if (
    missing.length > 0 ||
    typeof kvHeads !== 'number' ||
    typeof headDim !== 'number' ||
    (type !== 'float32' && type !== 'float16')
  ) {
    throw new BundleError(
      `decoder_model_merged is no decoder with a cache: it has ${missing.length > 0 ? `no ${missing[0]}` : 'no past_key_values.{layer}.{key,value} [batch, heads, length, size] of float32 or float16'}.`,
    );
  }
  return { layers: caches.length / 2, kvHeads, headDim, kvBytes: type === 'float32' ? 4 : 2 };
}
