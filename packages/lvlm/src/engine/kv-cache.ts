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
  readonly #first: number;
  readonly #end: number;
  /** By layer; none of layers that keep no keys and values. */
  readonly #tokens: Map<number, number>;
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
    this.#first = first;
    this.#end = end;
    const layers = dimensions.cachedLayers.filter((layer) => layer >= first && layer < end);
    this.#tokens = new Map(layers.map((layer) => [layer, 0]));
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

  /** Tokens that the first of the layers holds. */
  get length(): number {
    return this.#tokens.get(this.#first) ?? 0;
  }

  /** Whether it can be cut back: a state of a fixed size holds something of every token. */
  get isDivisible(): boolean {
    return this.#states.size === 0;
  }

  /**
   * A cache of the same tokens but the last `dropped` of every layer, 0 where it is not divisible. What is run
   * behind it leaves this one as it is; the tensors that both read are shared.
   */
  fork(dropped: number): KvCache {
    const fork = new KvCache(this.#tensor, this.#dimensions, this.#first, this.#end);
    for (const [layer, tokens] of this.#tokens) fork.#tokens.set(layer, tokens - dropped);
    fork.#past = this.#past;
    fork.#states = this.#states;
    if (dropped > 0) {
      fork.#past = fork.#tensors((_, bytes) => new ArrayBuffer(bytes));
      for (const [name, tensor] of fork.#past) copyFirstTokens(this.#past.get(name), tensor);
    }
    return fork;
  }

  /** Bytes of the buffers that hold the keys, values and states, room for further ones included. */
  get heldBytes(): number {
    const tensors = [...this.#past.values(), ...this.#states.values()];
    return tensors.reduce((sum, { data }) => sum + (data as Float32Array).buffer.byteLength, 0);
  }

  /** Bytes of the keys and values of each of the layers, in their order; 0 for one that has none. */
  bytesPerLayer(): number[] {
    const layers = Array.from({ length: this.#end - this.#first }, (_, i) => this.#first + i);
    return layers.map((layer) => 2 * this.#bytes(this.#tokens.get(layer) ?? 0));
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

/** From [1, heads, P, size] to [1, heads, P', size] with fewer tokens: the first of each head. */
function copyFirstTokens(from: Tensor | undefined, to: Tensor): void {
  if (!from) return;
  const [, heads, , size] = to.dims;
  const source = from.data as Float32Array | Uint16Array;
  const target = to.data as Float32Array | Uint16Array;
  const [stride, length] = [from.dims[2] * size, to.dims[2] * size];
  for (let head = 0; head < heads; head++) {
    target.set(source.subarray(head * stride, head * stride + length), head * length);
  }
}

function sizeOf(dims: readonly number[]): number {
  return dims.reduce((product, size) => product * size, 1);
}

function withPrefix(prefix: string, tensors: ReadonlyMap<string, Tensor>): Record<string, Tensor> {
  return Object.fromEntries(Array.from(tensors, ([name, tensor]) => [prefix + name, tensor]));
}
