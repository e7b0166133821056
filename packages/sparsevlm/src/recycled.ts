/** How many pruned tokens are recycled, and into how many clusters. */

/** Of `pruned` tokens, at least 1: those of the highest scores that are clustered. */
export function recycledCount(pruned: number): number {
  return Math.floor(pruned * 0.3) + 1;
}

/** The tokens that come of them. */
export function clusterCount(pruned: number): number {
  return Math.floor(recycledCount(pruned) / 10) + 1;
}

/** How many tokens a stage leaves of `length` when it keeps `kept` of them: these and the clusters. */
export function outputCount(length: number, kept: number): number {
  return kept >= length ? length : kept + clusterCount(length - kept);
}
