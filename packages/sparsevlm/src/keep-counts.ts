/** How many tokens each stage keeps, by the lists and scales of the official code or in proportion to them. */
import { outputCount } from './recycled.js';

/** What the official lists are made for. */
const officialTokens = 576;

/** Of 32 layers, how many the official budgets count with all tokens and behind each stage. */
const layers = [2, 4, 9, 17] as const;

/** Tokens that the three stages of v1.5 keep, by the mean that they are named after. */
const officialKept = new Map([
  [192, [300, 200, 110]],
  [128, [303, 110, 36]],
  [96, [238, 48, 26]],
  [64, [66, 30, 17]],
]);

/** By what v1.0 turns a rank into tokens to keep. */
const officialScales = new Map([
  [192, { scale: 13.5, bias: 0 }],
  [128, { scale: 9, bias: 6 }],
  [64, { scale: 0.8, bias: 0 }],
]);

/** Tokens that each stage keeps. */
export interface KeepCounts {
  readonly kept: readonly number[];
  /** Whether the official code has a list for this budget. */
  readonly official: boolean;
  /** The mean over the layers, as the official budgets count it. */
  readonly mean: number;
}

/**
 * What the stages of v1.5 keep so that `count` tokens are left on average over the layers. The official list
 * where there is one. Otherwise what the stages of the nearest one leave, all times one factor, the greatest
 * whose mean is at most `count`.
 * @param count in [1, entered]
 * @param entered tokens that enter the language model
 */
export function keepCounts(count: number, entered: number): KeepCounts {
  const official = entered === officialTokens ? officialKept.get(count) : undefined;
  if (official)
    return { kept: official, official: true, mean: meanCount(entered, outputsOf(official, entered)) };
  const nearest = nearestBudget(officialKept, (count * officialTokens) / entered);
  const shape = outputsOf(officialKept.get(nearest) ?? [], officialTokens).map(
    (output) => (output * entered) / officialTokens,
  );
  let [low, high] = [0, officialTokens];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (meanCount(entered, scaledOutputs(shape, middle, entered)) > count) high = middle;
    else low = middle;
  }
  const outputs = scaledOutputs(shape, low, entered);
  return {
    kept: outputs.map((output, stage) => keptFor(output, stage === 0 ? entered : outputs[stage - 1])),
    official: false,
    mean: meanCount(entered, outputs),
  };
}

/**
 * What v1.0 keeps for a rank: as the official scale of the nearest budget has it, times what `count` is of
 * that budget.
 */
export function countOfRank(rank: number, count: number, entered: number): number {
  const nearest = nearestBudget(officialScales, (count * officialTokens) / entered);
  const { scale, bias } = officialScales.get(nearest) ?? { scale: 0, bias: 0 };
  return Math.trunc(((rank * scale + bias) * count) / nearest);
}

/** The mean over the layers. */
function meanCount(entered: number, outputs: readonly number[]): number {
  const counts = [entered, ...outputs];
  const sum = counts.reduce((total, tokens, stage) => total + tokens * layers[stage], 0);
  return sum / layers.reduce((total, some) => total + some, 0);
}

/** Of budgets equally near the larger, which come first. */
function nearestBudget(budgets: ReadonlyMap<number, unknown>, wanted: number): number {
  return [...budgets.keys()].reduce((best, budget) =>
    Math.abs(budget - wanted) < Math.abs(best - wanted) ? budget : best,
  );
}

/** What stages leave that keep so many, one behind the other. */
function outputsOf(kept: readonly number[], entered: number): number[] {
  const outputs: number[] = [];
  for (const each of kept) outputs.push(outputCount(outputs.at(-1) ?? entered, each));
  return outputs;
}

/** Within what is possible: no more than there are, no fewer than one kept token and the clusters. */
function scaledOutputs(shape: readonly number[], factor: number, entered: number): number[] {
  const outputs: number[] = [];
  for (const part of shape) {
    const before = outputs.at(-1) ?? entered;
    const fewest = outputCount(before, 1);
    outputs.push(Math.min(before, Math.max(fewest, Math.round(part * factor))));
  }
  return outputs;
}

/** The most tokens to keep of `length` so that `output` are left; all where nothing need go. */
function keptFor(output: number, length: number): number {
  if (output >= length) return length;
  let kept = length - 2; // keeping all but one leaves as many as there were
  while (outputCount(length, kept) > output) kept--;
  return kept;
}
