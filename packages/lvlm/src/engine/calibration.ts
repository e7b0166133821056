/**
 * What a calibrated decoder adds to its attention scores, so that the language model attends to tokens that
 * stand for several as to all of them (RESTORE, arXiv 2606.01711).
 */
import type { Calibration } from '@foveate/core';
import type { Position } from './sequence.js';

/** What is known of the tokens of a prompt. */
export interface SizedTokens {
  /** [S] the tokens that each stands for; 1 of text. */
  readonly sizes: Float32Array;
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
  { sizes, uniform }: SizedTokens,
  positions: readonly Position[],
  { distances, firstLayer }: Calibration,
  frequencies: readonly number[],
): Biases {
  const count = positions.length;
  const byDistance = distances ? distanceBias(frequencies) : () => 0;
  const map = (logs: Float32Array): Float32Array => {
    const bias = new Float32Array(count * count);
    for (let query = 0; query < count; query++) {
      const row = query * count;
      // Keys behind the query are masked.
      for (let key = 0; key <= query; key++) {
        bias[row + key] = logs[key] + byDistance(positions[query][0] - positions[key][0]);
      }
    }
    return bias;
  };
  const later = map(sizes.map(Math.log));
  return { first: firstLayer === 'own' ? later : map(uniform.map(Math.log)), later };
}

/** Of `count` tokens behind a prompt, `total` tokens with these: log(size of the key). [count, total] */
export function laterBiases(
  { sizes, uniform }: SizedTokens,
  { firstLayer }: Calibration,
  count: number,
  total: number,
): Biases {
  const map = (own: Float32Array): Float32Array => {
    const bias = new Float32Array(count * total);
    for (let row = 0; row < bias.length; row += total) bias.set(own.map(Math.log), row);
    return bias;
  };
  const later = map(sizes);
  return { first: firstLayer === 'own' ? later : map(uniform), later };
}

/** Of rotary positions: base^(-2k / channels), k from 0 to channels / 2 - 1. */
export function rotaryFrequencies(base: number, channels: number): number[] {
  return Array.from({ length: channels / 2 }, (_, k) => base ** ((-2 * k) / channels));
}

/** log(2 - mean of cos(distance * frequency)), each distance once. */
function distanceBias(frequencies: readonly number[]): (distance: number) => number {
  const known = new Map<number, number>();
  return (distance) => {
    const found = known.get(distance);
    if (found !== undefined) return found;
    const sum = frequencies.reduce((total, frequency) => total + Math.cos(distance * frequency), 0);
    const bias = Math.log(2 - sum / frequencies.length);
    known.set(distance, bias);
    return bias;
  };
}
