/** Signals that stay in the engine while the caller's thread decides: it asks for those that it needs. */
import {
  nearestRowsWith,
  signalId,
  SignalUnavailableError,
  similarityWith,
  type ComparedRows,
  type GivenSignal,
  type RowProducts,
  type SignalAxis,
  type SignalRequest,
  type SimilarityMeasure,
} from '@foveate/core';
import { WorkerError } from '../platform/errors.js';
import type { SentSignal } from './api.js';

/** Gives the values of a signal, when they are asked for. */
export type SignalReader = () => Promise<Float32Array> | Float32Array;

/** The tokens whose plans are awaited. */
export interface AwaitedTokens {
  readonly length: number;
  /** By the signal's id. */
  readonly signals: ReadonlyMap<string, SignalReader>;
}

/** Axes along which a signal is short, or as long as there are tokens. */
const SHORT: ReadonlySet<string> = new Set<SignalAxis>(['N', 'T', 'L']);

/** A signal that comes with its tokens, unless it is wide. */
export function sent(signal: GivenSignal): SentSignal {
  return signal.signal.shape.every((axis) => SHORT.has(axis)) ? signal : held(signal);
}

/** A signal that stays here until it is asked for. */
export function held({ signal, layer, parameters }: SignalRequest): SentSignal {
  return { signal, ...(layer !== undefined && { layer }), parameters, values: null };
}

/** What the caller's thread may ask for now. */
export class Awaited {
  rowProducts: RowProducts | null = null;
  #tokens: readonly AwaitedTokens[] = [];

  /** Lets the caller's thread ask about tokens of a prompt, or of several crops, while it works. */
  async during<T>(tokens: readonly AwaitedTokens[], work: () => Promise<T>): Promise<T> {
    this.#tokens = tokens;
    try {
      return await work();
    } finally {
      this.#tokens = [];
    }
  }

  /** @throws SignalUnavailableError where there is no such signal now */
  async signal(request: SignalRequest, among: number): Promise<Float32Array> {
    const reader = this.#tokens.at(among)?.signals.get(signalId(request));
    if (reader) return reader();
    throw new SignalUnavailableError(signalId(request), 'the model does not give it here.');
  }

  /** See `TokenSource.nearest` of @foveate/core. */
  async nearest(rows: SignalRequest, of: Uint32Array, k: number, among: number): Promise<Uint32Array> {
    const values = await this.signal(rows, among);
    return nearestRowsWith(this.products, values, this.#length(among), of, k);
  }

  /** See `TokenSource.similarity` of @foveate/core. */
  async similarity(
    rows: SignalRequest,
    to: ComparedRows,
    measure: SimilarityMeasure,
    among: number,
  ): Promise<Float32Array> {
    const values = await this.signal(rows, among);
    return similarityWith(this.products, values, this.#length(among), to, measure);
  }

  /** See `TokenSource.products` of @foveate/core. */
  get products(): RowProducts {
    if (this.rowProducts) return this.rowProducts;
    throw new WorkerError('Rows were to be compared before a model was open.');
  }

  #length(among: number): number {
    return this.#tokens.at(among)?.length ?? 0;
  }
}
