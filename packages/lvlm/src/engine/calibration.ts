/**
 * What a calibrated decoder adds to its attention scores, so that the language model attends to tokens that
 * stand for several as to all of them (RESTORE, arXiv 2606.01711).
 */
import type { Calibration } from '@foveate/core';
import type { Position } from './sequence.js';

/** What is known of the tokens of a prompt: log(size), size being the tokens that each stands for. */
export interface SizedTokens {
  /** [S] 0 of text. */
  readonly own: Float32Array;
  /** [S] the same where all visual tokens have one size: those that were there by those that are left. */
  readonly uniform: Float32Array;
}

/** Biases of a run [S, T]: of layer 0, and of the layers behind it. */
export interface Biases {
  readonly first: Float32Array;
  readonly later: Float32Array;
}

/**
 * Of the prompt, all tokens at once: log(size of the key), and by their distance. [S, S]
 * @param frequencies of the rotary positions
 */
export function promptBiases(
  { own, uniform }: SizedTokens,
  positions: readonly Position[],
  { distances, firstLayer }: Calibration,
  frequencies: readonly number[],
): Biases {
  const count = positions.length;
  const places = positions.map(([place]) => place);
  const length = distances ? Math.max(...places) + 1 : 0;
  const byDistance = Float32Array.from({ length }, (_, d) => distanceBias(d, frequencies));
  const map = (logs: Float32Array): Float32Array => {
    const bias = new Float32Array(count * count);
    for (let query = 0; query < count; query++) {
      const row = query * count;
      // Keys behind the query are masked.
      for (let key = 0; key <= query; key++) {
        bias[row + key] = logs[key] + (distances ? byDistance[places[query] - places[key]] : 0);
      }
    }
    return bias;
  };
  const later = map(own);
  return { first: firstLayer === 'own' ? later : map(uniform), later };
}

/** Of `count` tokens behind a prompt, `total` tokens with these: log(size of the key). [count, total] */
export function laterBiases(
  { own, uniform }: SizedTokens,
  { firstLayer }: Calibration,
  count: number,
  total: number,
): Biases {
  const map = (logs: Float32Array): Float32Array => {
    const bias = new Float32Array(count * total);
    for (let row = 0; row < bias.length; row += total) bias.set(logs, row);
    return bias;
  };
  const later = map(own);
  return { first: firstLayer === 'own' ? later : map(uniform), later };
}

/** Of rotary positions: base^(-2k / channels), k from 0 to channels / 2 - 1. */
export function rotaryFrequencies(base: number, channels: number): number[] {
  return Array.from({ length: channels / 2 }, (_, k) => base ** ((-2 * k) / channels));
}

/** log(2 - mean of cos(distance * frequency)) */
function distanceBias(distance: number, frequencies: readonly number[]): number {
  const sum = frequencies.reduce((total, frequency) => total + Math.cos(distance * frequency), 0);
  return Math.log(2 - sum / frequencies.length);
}
