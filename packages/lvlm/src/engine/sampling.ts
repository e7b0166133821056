/** The choice of the next token. */
import { WorkerError } from '../platform/errors.js';

/** Chooses a token id from logits [V]. */
export type Sampler = (logits: Float32Array) => number;

/**
 * Temperature 0 takes the highest logit (ties: the lowest id); above 0 the choice is drawn from
 * softmax(logits / temperature).
 * @param seed of the draw, an integer
 */
export function createSampler(temperature: number, seed: number): Sampler {
  if (temperature === 0) return highest;
  const random = mulberry32(seed);
  return (logits) => {
    const top = logits[highest(logits)];
    const weights = Float64Array.from(logits, (logit) => Math.exp((logit - top) / temperature));
    let rest = random() * weights.reduce((sum, weight) => sum + weight, 0);
    const drawn = weights.findIndex((weight) => (rest -= weight) < 0);
    return drawn < 0 ? highest(logits) : drawn; // the sum was rounded down past the last weight
  };
}

function highest(logits: Float32Array): number {
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id] > logits[best]) best = id;
  // A NaN compares with nothing, so the loop would return a token as if all were well.
  if (!Number.isFinite(logits[best]))
    throw new WorkerError(
      'The model computed logits that are no numbers: its weights are damaged, or its dtype overflows.',
    );
  return best;
}

/** Tommy Ettinger's mulberry32: uniform in [0, 1), 32 bits of state, the same on every machine. */
function mulberry32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
}
