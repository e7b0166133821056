import {
  atFeatures,
  budgetOf,
  budgetOptions,
  choiceOption,
  classAttention,
  createPlan,
  defineOptions,
  defineReducer,
  identityPlan,
  integerOption,
  keys,
  mergePlan,
  resolveBudget,
  numberOption,
  similarityBy,
  topIndicesAscending,
  type CheckedOptions,
  type OptionsOf,
  type TokenReducer,
  type WeightedSources,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';
import { mergeIntoTargets, spreadTargets } from './contextual-tokens.js';

const byDefault = { keepRatio: 0.25 };

const options = defineOptions({
  ...budgetOptions(byDefault, {
    keepRatio:
      'share of the tokens that go out, dominant and contextual together: floor(N * keepRatio), at least 1',
    keepCount: 'number of tokens that go out, dominant and contextual together',
  }),
  contextualRatio: {
    ...numberOption(
      { from: 0, to: 1, default: 10 / 64 },
      'share of these that are contextual, rounded: 30 of 192, 20 of 128, 10 of 64 (paper)',
    ),
    group: 'contextual',
  },
  contextualCount: {
    ...integerOption({ from: 0, default: undefined }, 'number of these that are contextual'),
    group: 'contextual',
  },
  preset: choiceOption(
    ['full-budget', 'official-code'],
    'the class token is one of the official dominant tokens, and no part of the features here: a patch more in its place; or none, so that one token fewer goes out and all others are the official ones',
  ),
});

/** Options of {@link visionzip}; the README's table says what each does. */
export type VisionzipOptions = OptionsOf<typeof options.schema>;

/**
 * VisionZip (arXiv 2412.04467, section 3.2; official code: dvlab-research/VisionZip, 3151f6d): keeps the
 * tokens that the class token attends to most (dominant, in their order), and merges the others into
 * contextual tokens behind them: targets that stand evenly among the others, each plus the mean of those
 * whose keys are nearest to its own. Of equals the lower index. Needs an encoder with a class token: for one
 * without use fopru-rank, fopru-row or pooling.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * visionzip({ keepCount: 64 }); // 54 dominant tokens and 10 contextual ones
 */
export function visionzip(given: VisionzipOptions = {}): TokenReducer {
  const checked = options.check(given);
  const budget = budgetOf(checked) ?? byDefault;
  return defineReducer({
    name: 'visionzip',
    at: [atFeatures],
    requires: {
      attention: classAttention({ heads: 'mean' }),
      similar: similarityBy(keys({ heads: 'mean' })),
    },
    plan: async ({ length, signals: { attention, similar } }) => {
      const { count, warnings } = resolveBudget(budget, length);
      if (count === length) return identityPlan(length, { warnings });
      const split = splitBudget(count, checked);
      const dominant = split.dominant > 0 ? Array.from(topIndicesAscending(attention, split.dominant)) : [];
      const rest = tokensBeside(dominant, length);
      const targets = spreadTargets(rest, split.contextual);
      const plan = mergePlan(
        [...dominant.map(unchanged), ...(await mergeIntoTargets(targets, rest, similar))],
        length,
        { warnings: [...warnings, ...split.warnings] },
      );
      return createPlan({ ...plan, anchors: [...dominant, ...targets] });
    },
  });
}

/** How `foveate` and other registries know the method. */
export const visionzipEntry: ReducerEntry = reducerEntry({
  name: 'visionzip',
  description: 'those that the class token attends to most, the others merged into a few (VisionZip)',
  options,
  create: visionzip,
});

/** How many tokens of each kind go out; at least one in all. */
interface Split {
  readonly dominant: number;
  readonly contextual: number;
  readonly warnings: readonly string[];
}

/** @param count tokens of the budget; with the official code, the class token is one of them */
function splitBudget(
  count: number,
  { preset, contextualRatio, contextualCount }: CheckedOptions<typeof options.schema>,
): Split {
  const outputs = preset === 'official-code' ? Math.max(1, count - 1) : count;
  const asked = contextualCount ?? Math.round(count * contextualRatio);
  const contextual = Math.min(asked, outputs);
  const excess = `contextualCount ${asked} is more than the ${outputs} tokens that go out: all are contextual`;
  return {
    dominant: outputs - contextual,
    contextual,
    warnings: contextualCount !== undefined && asked > outputs ? [excess] : [],
  };
}

/** All tokens that are not among `some`, ascending. */
function tokensBeside(some: readonly number[], length: number): number[] {
  const isAmong = new Uint8Array(length);
  for (const token of some) isAmong[token] = 1;
  return Array.from(isAmong.keys()).filter((token) => !isAmong[token]);
}

function unchanged(token: number): WeightedSources {
  return { sources: [token], weights: [1] };
}
