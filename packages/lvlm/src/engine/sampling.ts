/** The choice of the next token, as transformers' logits processors make it. */
import type { GenerationRules } from '../bundle/generation-rules.js';
import { WorkerError } from '../platform/errors.js';

/**
 * Chooses a token id from logits [V].
 * @param seen ids that came before, of the prompt and of the answer
 */
export type Sampler = (logits: Float32Array, seen: ReadonlySet<number>) => number;

/** How tokens are chosen. */
export interface SamplerOptions extends GenerationRules {
  /**
   * 0 takes the highest logit (ties: the lowest id); above 0 the choice is drawn from softmax(logits /
   * temperature), of what topK, topP and minP leave, in this order.
   */
  readonly temperature: number;
  /** Of the draw, an integer. */
  readonly seed: number;
}

/** The repetition penalty comes first, at any temperature. */
export function createSampler({ temperature, seed, ...rules }: SamplerOptions): Sampler {
  const random = mulberry32(seed);
  return (logits, seen) => {
    const scores = penalised(logits, seen, rules.repetitionPenalty);
    return temperature === 0 ? highest(scores) : draw(weightsOf(scores, temperature, rules), random());
  };
}

/** RepetitionPenaltyLogitsProcessor */
function penalised(logits: Float32Array, seen: ReadonlySet<number>, penalty: number): Float32Array {
  if (penalty === 1) return logits;
  const scores = logits.slice();
  for (const id of seen) {
    if (id < scores.length) scores[id] = scores[id] < 0 ? scores[id] * penalty : scores[id] / penalty;
  }
  return scores;
}

/** exp of the scores, of the likeliest 1; 0 for what is not drawn from. */
function weightsOf(
  scores: Float32Array,
  temperature: number,
  { topK, topP, minP }: GenerationRules,
): Float64Array {
  const top = scores[highest(scores)];
  const weights = Float64Array.from(scores, (score) => Math.exp((score - top) / temperature));
  if (topK > 0 && topK < weights.length) keepAtLeast(weights, descending(weights)[topK - 1]);
  if (topP < 1) keepNucleus(weights, topP);
  if (minP > 0) keepAtLeast(weights, minP);
  return weights;
}

function descending(weights: Float64Array): Float64Array {
  return weights.slice().sort().reverse();
}

function keepAtLeast(weights: Float64Array, least: number): void {
  for (const [id, weight] of weights.entries()) if (weight < least) weights[id] = 0;
}

/**
 * TopPLogitsWarper: from the least likely on, tokens are left out as long as together they have no more than
 * 1 - topP of the probability; of equals the lower ids first.
 */
function keepNucleus(weights: Float64Array, topP: number): void {
  const total = sum(weights);
  const ascending = Array.from(weights.keys()).sort((a, b) => weights[a] - weights[b] || a - b);
  let below = 0;
  for (const id of ascending.slice(0, -1)) {
    below += weights[id];
    if (below / total > 1 - topP) return;
    weights[id] = 0;
  }
}

/** @param random in [0, 1) */
function draw(weights: Float64Array, random: number): number {
  let rest = random * sum(weights);
  const drawn = weights.findIndex((weight) => (rest -= weight) < 0);
  // The sum may have been rounded down past the last weight.
  return drawn < 0 ? weights.findLastIndex((weight) => weight > 0) : drawn;
}

function sum(values: Float64Array): number {
  return values.reduce((total, value) => total + value, 0);
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
