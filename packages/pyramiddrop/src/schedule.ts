/** How many tokens each stage leaves, and what that is in the mean over the layers. */

/** Layers of the language model for which the method was made, LLaVA-1.5-7B's. */
export const LAYERS = 32;

/**
 * The mean over the layers of a model of {@link LAYERS} layers, as a share of the tokens that entered it.
 * @param layers [stages] before which tokens are dropped, ascending
 * @param ratios [stages] what each leaves, as a share of what entered
 */
function meanShare(layers: readonly number[], ratios: readonly number[]): number {
  const depths = layers.map((layer, stage) => (layers[stage + 1] ?? LAYERS) - layer);
  return ratios.reduce((sum, ratio, stage) => sum + ratio * depths[stage], layers[0]) / LAYERS;
}

/**
 * Ratios that fall by one factor from stage to stage and have this mean; all 0 where no factor is small
 * enough, because the layers before the first stage see more.
 * @param share in (0, 1]
 */
export function geometricRatios(layers: readonly number[], share: number): number[] {
  const ratiosOf = (factor: number): number[] => layers.map((_, stage) => factor ** (stage + 1));
  let [low, high] = [0, 1];
  // The mean rises with the factor. Halved until no number lies between.
  for (let middle = 0.5; middle > low && middle < high; middle = (low + high) / 2) {
    if (meanShare(layers, ratiosOf(middle)) <= share) low = middle;
    else high = middle;
  }
  return ratiosOf(low);
}
