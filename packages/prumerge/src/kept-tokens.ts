/**
 * Which tokens PruMerge and PruMerge+ keep. A ranking [N] has all tokens by descending class attention.
 * Source: `outlier_dectection` and `token_prune_merge_advanced_plus` in
 * llava/model/multimodal_encoder/clip_encoder.py of 42Shawn/LLaVA-PruMerge, 1ca8b2b.
 */

/** How many values lie above Q3 + 1.5 * (Q3 - Q1), quartiles by linear interpolation. */
export function countOutliers(values: Float32Array): number {
  const sorted = Float64Array.from(values).sort();
  const [lower, upper] = [quantile(sorted, 0.25), quantile(sorted, 0.75)];
  const bound = upper + 1.5 * (upper - lower);
  return sorted.filter((value) => value > bound).length;
}

function quantile(sorted: Float64Array, share: number): number {
  const place = (sorted.length - 1) * share;
  const below = sorted[Math.floor(place)];
  return below + (sorted[Math.ceil(place)] - below) * (place % 1);
}

/** The `count` tokens of the highest class attention, in descending order of it. */
export function keepTop(ranking: Uint32Array, count: number): number[] {
  return Array.from(ranking.subarray(0, count));
}

/**
 * The top `count`, then those of an even sample of all tokens that are not among them, ascending. The more
 * stand out, the denser the sample: about three for each. None where `count` is 0.
 */
export function keepTopAndSample(ranking: Uint32Array, count: number): number[] {
  const kept = keepTop(ranking, count);
  if (count === 0) return kept;
  const isTop = new Uint8Array(ranking.length);
  for (const token of kept) isTop[token] = 1;
  const step = Math.max(1, Math.floor(Math.floor(ranking.length / count) / 3));
  for (let token = 0; token < ranking.length - 1; token += step) if (!isTop[token]) kept.push(token);
  return kept;
}

/**
 * Exactly `total` tokens: as many of the top as leave room for their even sample, then, since samples come in
 * steps, the next of the ranking until the number is full. In the order of {@link keepTopAndSample}.
 */
export function fillWithTopAndSample(ranking: Uint32Array, total: number): number[] {
  let top = 0;
  while (top < total && keepTopAndSample(ranking, top + 1).length <= total) top++;
  const kept = keepTopAndSample(ranking, top);
  const others = ranking.filter((token) => !kept.includes(token));
  return [...kept.slice(0, top), ...keepTop(others, total - kept.length), ...kept.slice(top)];
}
