import type { Tensor } from 'onnxruntime-common';
import type { ModelDimensions } from './api.js';

const PAST = 'past_key_values.';
const PRESENT = 'present.';
const ARRAYS = { float32: Float32Array, float16: Uint16Array } as const;

/** What one run reads and writes. */
export interface CacheRun {
  readonly feeds: Readonly<Record<string, Tensor>>;
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** To be called when the run is over: what it wrote is read by the next. */
  done(): void;
}

/**
 * Keys and values of some layers of the decoder, each of its own length, and the states of those that keep
 * something of a fixed size. onnxruntime writes each run's into one of two sets of buffers while it reads the
 * other: nothing is copied into JS or allocated a step.
 */
export class KvCache {
  readonly #tensor: typeof Tensor;
  readonly #dimensions: ModelDimensions;
  /** By layer. */
  readonly #tokens: Map<number, number>;
  readonly #layers: readonly number[];
  #past: Map<string, Tensor>;
  #states: Map<string, Tensor>;
  #buffers: [Map<string, ArrayBuffer>, Map<string, ArrayBuffer>] = [
    new Map<string, ArrayBuffer>(),
    new Map<string, ArrayBuffer>(),
  ];

  /** An empty cache of the layers from `first` up to but not including `end`. */
  constructor(
    tensor: typeof Tensor,
    dimensions: ModelDimensions,
    first: number = 0,
    end: number = dimensions.layers,
  ) {
    this.#tensor = tensor;
    this.#dimensions = dimensions;
    this.#layers = Array.from({ length: end - first }, (_, i) => first + i);
    const { cachedLayers } = dimensions;
    this.#tokens = new Map(
      cachedLayers.filter((layer) => layer >= first && layer < end).map((layer) => [layer, 0]),
    );
    this.#past = this.#tensors(() => new ArrayBuffer(0));
    this.#states = this.#stateTensors((_, bytes) => new ArrayBuffer(bytes)); // zeros
  }

  /** The next run, in which `added` tokens go through a layer. */
  next(added: (layer: number) => number): CacheRun {
    for (const [layer, tokens] of this.#tokens) this.#tokens.set(layer, tokens + added(layer));
    const present = this.#tensors((name, bytes) => this.#buffer(name, bytes));
    const states = this.#stateTensors((name, bytes) => this.#buffer(name, bytes));
    const written = this.#dimensions.states.flatMap(({ past, present: output }) => {
      const state = states.get(past);
      return state ? [[output, state] as const] : [];
    });
    return {
      feeds: { ...withPrefix(PAST, this.#past), ...Object.fromEntries(this.#states) },
      outputs: { ...withPrefix(PRESENT, present), ...Object.fromEntries(written) },
      done: () => {
        this.#past = present;
        this.#states = states;
        this.#buffers.reverse();
      },
    };
  }

  /** Bytes of the keys and values of each of the layers, in their order; 0 for one that has none. */
  bytesPerLayer(): number[] {
    return this.#layers.map((layer) => 2 * this.#bytes(this.#tokens.get(layer) ?? 0));
  }

  /**
   * Keys and values [1, kvHeads, tokens, headDim] of every layer, at the start of the buffers that `bufferOf`
   * gives.
   */
  #tensors(bufferOf: (name: string, bytes: number) => ArrayBuffer): Map<string, Tensor> {
    const { kvHeads, headDim, kvBytes } = this.#dimensions;
    const tensors = new Map<string, Tensor>();
    for (const [layer, tokens] of this.#tokens) {
      const dims = [1, kvHeads, tokens, headDim];
      for (const name of [`${layer}.key`, `${layer}.value`]) {
        const buffer = bufferOf(name, this.#bytes(tokens));
        tensors.set(name, this.#make(kvBytes === 4 ? 'float32' : 'float16', buffer, dims));
      }
    }
    return tensors;
  }

  /** States of all layers, by the names of their inputs, likewise. */
  #stateTensors(bufferOf: (name: string, bytes: number) => ArrayBuffer): Map<string, Tensor> {
    return new Map(
      this.#dimensions.states.map(({ past, type, dims }) => {
        const bytes = sizeOf(dims) * ARRAYS[type].BYTES_PER_ELEMENT;
        return [past, this.#make(type, bufferOf(past, bytes), dims)];
      }),
    );
  }

  #make(type: keyof typeof ARRAYS, buffer: ArrayBuffer, dims: readonly number[]): Tensor {
    return new this.#tensor(type, new ARRAYS[type](buffer, 0, sizeOf(dims)), dims);
  }

  /** The buffer to write so many bytes into; it grows by half, so that a step seldom allocates. */
  #buffer(name: string, bytes: number): ArrayBuffer {
    const { kvBytes } = this.#dimensions;
    const buffers = this.#buffers[0];
    let buffer = buffers.get(name);
    if (!buffer || buffer.byteLength < bytes) {
      buffer = new ArrayBuffer(Math.ceil((bytes * 1.5) / kvBytes) * kvBytes);
      buffers.set(name, buffer);
    }
    return buffer;
  }

  #bytes(tokens: number): number {
    const { kvHeads, headDim, kvBytes } = this.#dimensions;
    return kvHeads * headDim * kvBytes * tokens;
  }
}

function sizeOf(dims: readonly number[]): number {
  return dims.reduce((product, size) => product * size, 1);
}

function withPrefix(prefix: string, tensors: ReadonlyMap<string, Tensor>): Record<string, Tensor> {
  return Object.fromEntries(Array.from(tensors, ([name, tensor]) => [prefix + name, tensor]));
}
