import {
  beforeLanguageLayer,
  budgetOf,
  budgetOptions,
  choiceOption,
  defineOptions,
  defineReducer,
  hiddenStates,
  identityPlan,
  integerOption,
  InvalidSignalError,
  questionAttention,
  questionRelevance,
  questionStates,
  resolveBudget,
  scaledLayer,
  seededNumbers,
  numberOption,
  similarityBy,
  type OptionsOf,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';
import { countOfRank, keepCounts } from './keep-counts.js';
import { attentionRank, chooseRaters, scoreTokens } from './scores.js';
import { clusterTokens, splitTokens, stagePlan } from './stage.js';

/** 192 of 576. */
const byDefault = { keepRatio: 1 / 3 };

/** Before these layers of 32: the outputs of layers 2, 6, 15 and, in v1.0, 19. */
const sites = {
  '1.5': [3, 7, 16],
  '1.0': [3, 7, 16, 20],
};

const options = defineOptions({
  ...budgetOptions(undefined, {
    keepRatio:
      'share of the tokens left on average over 32 layers, as the official budgets count it; without a budget a third, the official 192 of 576',
    keepCount:
      'number of tokens left on average over 32 layers; 192, 128, 96 and 64 of 576 are the official lists',
  }),
  version: choiceOption(
    ['1.5', '1.0'],
    'how many tokens a stage keeps: by lists of counts (v1.5), or by the rank of the attention (v1.0, with one stage more)',
  ),
  noise: numberOption(
    { from: 0, to: 1, default: 0 },
    'greatest random number that is added to a density, which tells equal ones apart; 1e-6 in the official code',
  ),
  seed: integerOption({ from: 0, to: 2 ** 32 - 1, default: 0 }, 'of the noise; below 2^32'),
});

/** Options of {@link sparsevlm}; the README's table says what each does. */
export type SparsevlmOptions = OptionsOf<typeof options.schema>;

/**
 * SparseVLM (arXiv 2410.04417; official code: Gumpest/SparseVLMs, v1.5 at 26a5f48 with USE_VERSION=1_0, v1.0
 * at 91fb6d9): at three layers of the language model keeps the visual tokens that the question's tokens of
 * high relevance attend to most, and merges the best of the others in clusters behind them. Positions are
 * counted anew. Where the question is one token, or none of its tokens is more relevant than the others, all
 * of them rate, and the plan says so. All images of a prompt are ranked together; a merged token belongs to
 * the image of its cluster's centre.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * sparsevlm({ keepCount: 128 });
 */
export function sparsevlm(given: SparsevlmOptions = {}): TokenReducer {
  const { version, noise, seed, ...others } = options.check(given);
  const budget = budgetOf(others) ?? byDefault;
  return defineReducer({
    name: 'sparsevlm',
    at: sites[version].map((layer) => beforeLanguageLayer(scaledLayer(layer, 32))),
    positions: 'renumbered',
    requires: {
      relevance: questionRelevance(),
      attention: questionAttention(),
      states: similarityBy(hiddenStates()),
      question: questionStates(), // says how wide the states are
    },
    plan: async ({ length, spans, entered = length, imageHash, signals }, _site, stage) => {
      const { relevance, attention, states, question } = signals;
      checkWidths(relevance.length, attention.length / length, question.length);
      const resolved = resolveBudget(budget, entered);
      if (resolved.count === entered) return identityPlan(length, { warnings: resolved.warnings });
      const { raters, warnings } = chooseRaters(relevance);
      const count =
        version === '1.5'
          ? countByList(resolved.count, entered, stage, length)
          : countByRank(attentionRank(attention, raters, length), resolved.count, entered, length);
      const notes = { warnings: stage === 0 ? [...warnings, ...count.warnings] : [] };
      if (count.kept >= length) return identityPlan(length, notes);
      const split = splitTokens(scoreTokens(attention, raters, length), count.kept);
      const next = seededNumbers(seed, `${imageHash} ${stage}`);
      const drawn = Array.from(split.recycled, () => noise * next());
      const clusters = await clusterTokens(states, question.length / relevance.length, split, drawn);
      return stagePlan(split.kept, clusters, { length, spans, ...notes });
    },
  });
}

/** How `foveate` and other registries know the method. */
export const sparsevlmEntry: ReducerEntry = reducerEntry({
  name: 'sparsevlm',
  description:
    'stage by stage, the tokens that the question’s words attend to most; the best of the others merged',
  options,
  create: sparsevlm,
});

interface StageCount {
  /** As many as there are: the stage changes nothing. */
  readonly kept: number;
  readonly warnings: readonly string[];
}

function countByList(count: number, entered: number, stage: number, length: number): StageCount {
  const { kept, mean, official } = keepCounts(count, entered);
  const warnings =
    mean < count + 1
      ? []
      : [
          `${count} of ${entered} tokens cannot be had, as the first layers see all: ${mean.toFixed(1)} are left on average`,
        ];
  return { kept: official ? Math.min(kept[stage], length - 1) : kept[stage], warnings };
}

/** The official code prunes nothing only where the rank is the number of tokens. */
function countByRank(rank: number, count: number, entered: number, length: number): StageCount {
  const kept = rank === length ? length : Math.min(countOfRank(rank, count, entered), length - 1);
  return { kept, warnings: [] };
}

function checkWidths(relevant: number, attending: number, questionValues: number): void {
  if (relevant !== attending)
    throw new InvalidSignalError(
      'questionAttention',
      `is of ${attending} tokens of the question, questionRelevance of ${relevant}`,
    );
  if (questionValues % relevant === 0) return;
  throw new InvalidSignalError(
    'questionStates',
    `has ${questionValues} values, which are not ${relevant} rows`,
  );
}
