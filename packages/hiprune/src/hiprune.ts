import {
  atFeatures,
  attentionReceived,
  budgetOf,
  budgetOptions,
  choiceOption,
  defineOptions,
  defineReducer,
  GridRequiredError,
  identityPlan,
  integerOption,
  resolveBudget,
  scaledLayer,
  selectionPlan,
  numberOption,
  topIndices,
  topIndicesAscending,
  type Grid,
  type OptionsOf,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';
import { clampedNeighbours, gridNeighbours } from './neighbours.js';

const byDefault = { keepRatio: 0.25 };

/** Layers of CLIP ViT-L/14, for which the object layer was found. */
const CLIP_LAYERS = 24;

const options = defineOptions({
  ...budgetOptions(byDefault),
  alpha: numberOption(
    { from: 0, to: 1, default: 0.1 },
    'share of the kept tokens for anchors with their four neighbours: round(kept * alpha / 5) anchors, half to even',
  ),
  objectLayer: integerOption(
    { from: 0, to: CLIP_LAYERS - 1, default: 8 },
    `layer whose attention finds the anchors, from 0, in an encoder of ${CLIP_LAYERS} layers; in another as far on the way`,
  ),
  preset: choiceOption(
    ['grid', 'official-code'],
    'neighbours of an anchor: those that the grid has, fewer at its border; or as the official code counts them, which runs on into the next row, and at the first and last row to the first and last token',
  ),
});

/** Options of {@link hiprune}; the README's table says what each does. */
export type HipruneOptions = OptionsOf<typeof options.schema>;

/**
 * HiPrune (arXiv 2508.00553; official code: Danielement321/HiPrune, 6e83a12): keeps anchors, the tokens that
 * all others attend to most in a middle layer of the encoder; buffers, the neighbours of anchors in the grid;
 * and registers, what of the rest is attended to most in the layer that makes the features. Attention is the
 * mean over heads and over all queries, the class token's too. Ties to the lower index, tokens in their
 * original order. Where anchors and buffers are more than is kept, the anchors stay, then buffers, those of
 * the first anchors first, with a warning; the official code raises there. Throws `GridRequiredError` when it
 * plans for tokens without a grid and has anchors.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * hiprune({ keepCount: 192 });
 */
export function hiprune(given: HipruneOptions = {}): TokenReducer {
  const checked = options.check(given);
  const { alpha, objectLayer, preset } = checked;
  const budget = budgetOf(checked) ?? byDefault;
  const neighboursOf = preset === 'grid' ? gridNeighbours : clampedNeighbours;
  return defineReducer({
    name: 'hiprune',
    at: [atFeatures],
    requires: {
      object: attentionReceived({ queries: 'all', layer: scaledLayer(objectLayer, CLIP_LAYERS) }),
      deep: attentionReceived({ queries: 'all' }),
    },
    plan: async ({ length, grid, signals: { object, deep } }) => {
      const { count, warnings } = resolveBudget(budget, length);
      if (count === length) return identityPlan(length, { warnings });
      const anchors = roundHalfToEven((count * alpha) / 5);
      if (anchors > 0 && !grid) throw new GridRequiredError('hiprune', length);
      const around = grid && anchors > 0 ? withBuffers(topIndices(object, anchors), grid, neighboursOf) : [];
      const missed = around.length - count;
      const kept = addRegisters(around.slice(0, count), deep, count);
      return selectionPlan(kept, length, {
        warnings: missed > 0 ? [...warnings, tooManyBuffers(anchors, count, missed)] : warnings,
      });
    },
  });
}

/** How `foveate` and other registries know the method. */
export const hipruneEntry: ReducerEntry = reducerEntry({
  name: 'hiprune',
  description: 'the tokens attended to most in a middle and in a deep layer of the encoder (HiPrune)',
  options,
  create: hiprune,
});

/** Anchors, most attended first, then their neighbours in the order of the anchors; each token once. */
function withBuffers(
  anchors: Uint32Array,
  grid: Grid,
  neighboursOf: (token: number, grid: Grid) => number[],
): number[] {
  const buffers = Array.from(anchors).flatMap((anchor) => neighboursOf(anchor, grid));
  return [...new Set([...anchors, ...buffers])];
}

/** `kept` and the tokens of the highest scores beside them, `count` together, ascending. */
function addRegisters(kept: readonly number[], scores: Float32Array, count: number): Uint32Array {
  const ranked = Float64Array.from(scores);
  for (const token of kept) ranked[token] = Infinity; // the kept come first of all
  return topIndicesAscending(ranked, count);
}

function tooManyBuffers(anchors: number, count: number, missed: number): string {
  return `anchors (${anchors}) and their neighbours are more than the ${count} tokens to keep: ${missed} of the neighbours left out`;
}

/** As Python rounds, and so the official code. */
function roundHalfToEven(value: number): number {
  const below = Math.floor(value);
  if (value - below === 0.5) return below + (below % 2);
  return Math.round(value);
}
