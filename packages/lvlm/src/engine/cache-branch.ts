import { BundleError } from '../platform/errors.js';
import { KvCache } from './kv-cache.js';
import { embeddingFeeds, headFeeds, lastLogits, taken, type DecoderSession } from './sequence.js';
import { run } from './sessions.js';

/** Input that chooses between the branches of a decoder that Optimum merged. */
export const CACHE_BRANCH = 'use_cache_branch';

/** Largest difference of a logit, as a share of the largest: int8 rounds apart where branches are fused apart. */
const TOLERANCE = 0.05;

/**
 * Whether the branch for a filled cache runs a prompt as the other one does: a patch leaves that branch only,
 * and exporters that traced it with one token left the causal mask out.
 * @param embeddings of `count` tokens
 * @throws BundleError where it does not
 */
export async function checkCacheBranch(
  decoder: DecoderSession,
  embeddings: Float32Array,
  count: number,
): Promise<void> {
  const expected = await promptLogits(decoder, embeddings, count, false);
  const different = (options?: ErrorOptions): BundleError =>
    new BundleError(
      `The decoder's branch for a filled cache (${CACHE_BRANCH}) computes something else for a prompt than its branch for an empty one, so that reducers inside the language model cannot run: choose one that acts before it, or export the decoder again without merging.`,
      options,
    );
  const actual = await promptLogits(decoder, embeddings, count, true).catch((cause: unknown) => {
    throw different({ cause }); // one token may have become part of the graph's shapes
  });
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const isClose = (value: number, i: number): boolean => Math.abs(value - actual[i]) <= TOLERANCE * largest;
  if (!expected.every(isClose)) throw different();
}

async function promptLogits(
  decoder: DecoderSession,
  embeddings: Float32Array,
  count: number,
  branch: boolean,
): Promise<Float32Array> {
  const { session, tensor, dimensions } = decoder;
  const cache = new KvCache(tensor, dimensions).next(() => count);
  const positions = Array.from({ length: count }, (_, i) => [i]);
  const feeds = {
    ...embeddingFeeds(decoder, embeddings, 0, positions),
    ...headFeeds(tensor),
    [CACHE_BRANCH]: () => new tensor('bool', [branch], [1]),
  };
  const outputs = { logits: null, ...cache.outputs };
  return lastLogits(await run(session, { ...taken(session, feeds), ...cache.feeds }, outputs));
}
