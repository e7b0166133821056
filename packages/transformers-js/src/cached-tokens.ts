/**
 * Caches of reduced prompts: generation goes on by the length of the prompt before its reduction, and so has
 * to be told how much shorter the cache is.
 */
import type { Tensor } from '@huggingface/transformers';
import { UnsupportedCallError } from './errors.js';
import type { Cache, ForwardInputs, ForwardOutputs } from './llava.js';

/** Knows caches by their tensors, which each run makes anew. */
export interface CachedTokens {
  /** How many tokens a cache has fewer than its text; 0 where nothing was reduced. */
  missingIn(cache: Cache | null | undefined): number;
  /** Notes what is missing in the cache that a run put out. */
  note(outputs: ForwardOutputs, missing: number): void;
}

/** Keeps nothing alive: caches that nobody holds are forgotten. */
export function createCachedTokens(): CachedTokens {
  const missingBehind = new WeakMap<Tensor, number>();
  return {
    missingIn: (cache) =>
      Object.values((cache ?? {}) as Readonly<Record<string, Tensor>>).reduce(
        (most, each) => Math.max(most, missingBehind.get(each) ?? 0),
        0,
      ),
    note: (outputs, missing) => {
      if (missing === 0) return;
      for (const [name, tensor] of Object.entries(outputs)) {
        if (name.startsWith('present')) missingBehind.set(tensor, missing);
      }
    },
  };
}

/**
 * The call behind a shorter cache. transformers.js leaves out of the text as many tokens as the cache has:
 * the first `missing` that it leaves in were read before.
 * @throws UnsupportedCallError where nothing new is left to read
 */
export function behindCache(inputs: ForwardInputs, missing: number): ForwardInputs {
  const { input_ids: ids, attention_mask: mask, past_key_values: cache } = inputs;
  if (missing === 0 || !ids || !mask || !cache) return inputs;
  const cached = cache.get_seq_length();
  const added = mask.dims[1] - missing - cached;
  if (added < 1) throw new UnsupportedCallError('The prompt has no token behind those of the cache.');
  return {
    ...inputs,
    input_ids: lastColumns(ids, added),
    attention_mask: lastColumns(mask, cached + added),
  };
}

/** The last columns of [1, S]. */
function lastColumns(tensor: Tensor, count: number): Tensor {
  return count < tensor.dims[1] ? tensor.slice(null, [tensor.dims[1] - count, tensor.dims[1]]) : tensor;
}
