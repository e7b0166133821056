/** How many tokens each stage keeps. */

/** What the official schedule keeps of 576. */
const officialKept = [288, 144, 1] as const;
const officialTokens = 576;

/** Of 32 layers, how many see all tokens and what each stage keeps. */
const layers = [3, 14, 5, 10] as const;

/** Tokens that each stage keeps. */
export interface KeepCounts {
  readonly kept: readonly number[];
  /** The mean over the 32 layers. */
  readonly mean: number;
}

/** What a stage of the official code keeps of the tokens that are there: half, half, one. */
export function officialCount(length: number, stage: number): number {
  return stage === officialKept.length - 1 ? 1 : Math.max(1, Math.floor(length / 2));
}

/**
 * What the stages keep so that `count` tokens are left on average over the layers: the official 288, 144 and
 * 1 of 576 in proportion, times one factor, the greatest whose mean is at most `count`. No stage keeps more
 * than there are, and each at least one token.
 * @param count in [1, entered]
 * @param entered tokens that enter the language model
 */
export function keepCounts(count: number, entered: number): KeepCounts {
  let [low, high] = [0, 2 * officialTokens];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (meanCount(entered, scaledCounts(middle, entered)) > count) high = middle;
    else low = middle;
  }
  const kept = scaledCounts(low, entered);
  return { kept, mean: meanCount(entered, kept) };
}

function scaledCounts(factor: number, entered: number): number[] {
  return officialKept.map((count) =>
    Math.min(entered, Math.max(1, Math.round((count * entered * factor) / officialTokens))),
  );
}

function meanCount(entered: number, kept: readonly number[]): number {
  const sum = [entered, ...kept].reduce((total, tokens, stage) => total + tokens * layers[stage], 0);
  return sum / layers.reduce((total, some) => total + some, 0);
}
