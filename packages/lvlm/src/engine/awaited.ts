/** Signals that stay in the engine while the caller's thread decides: it asks for those that it needs. */
import { signalId, SignalUnavailableError, type SignalRequest } from '@foveate/core';
import type { NearestRows } from './nearest-rows.js';

/** Gives the values of a signal, when they are asked for. */
export type SignalReader = () => Promise<Float32Array> | Float32Array;

/** The tokens whose plans are awaited. */
export interface AwaitedTokens {
  readonly length: number;
  /** By the signal's id. */
  readonly signals: ReadonlyMap<string, SignalReader>;
}

/** What the caller's thread may ask for now. */
export class Awaited {
  nearestRows: NearestRows | null = null;
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
    const length = this.#tokens.at(among)?.length ?? 0;
    const values = await this.signal(rows, among);
    if (!this.nearestRows) throw new SignalUnavailableError(signalId(rows), 'no model is open.');
    return this.nearestRows(values, length, of, k);
  }
}
