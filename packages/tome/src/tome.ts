import {
  BUDGET_GROUP,
  budgetOf,
  budgetOptions,
  defineOptions,
  defineReducer,
  identityPlan,
  insideVisionLayers,
  integerOption,
  InvalidArgumentError,
  keys,
  mergeBipartite,
  numberOption,
  resolveMerging,
  similarityBy,
  withWarnings,
  type MergeAmount,
  type OptionsOf,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';
import { bipartiteMerge, halvesOf } from './bipartite-match.js';

const byDefault = { keepRatio: 0.25 };
const budget = budgetOptions(byDefault, {
  keepRatio: 'share of the tokens left behind the last layer: floor(N * keepRatio), at least 1',
  keepCount: 'number of tokens left behind the last layer',
});

const options = defineOptions({
  ...budget,
  r: {
    ...integerOption(
      { from: 0, default: undefined },
      'tokens that each layer merges, as the official code takes it, in place of a budget',
    ),
    group: BUDGET_GROUP,
  },
  inflect: numberOption(
    { from: -1, to: 1, default: 0 },
    'of r: 0 the same in each layer, -1 from 2 r in the first down to none, 1 up to 2 r',
  ),
});

/** Options of {@link tome}; the README's table says what each does. */
export type TomeOptions = OptionsOf<typeof options.schema>;

/**
 * ToMe (Bolya et al., ICLR 2023, arXiv 2210.09461, section 3; official code: facebookresearch/ToMe): in every
 * layer of the vision encoder, between attention and MLP, merges the patches whose keys (mean over the heads)
 * have the highest cosine, by bipartite soft matching. A token is the average of its patches; log(size) is
 * added to the attention scores of its keys, so that it weighs as much as they did. Class tokens take no
 * part. What is left is not in the order of the picture. A budget is spread evenly over the layers.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * tome({ keepRatio: 0.25 });
 * tome({ r: 16, inflect: -1 });
 */
export function tome(given: TomeOptions = {}): TokenReducer {
  const amount = amountOf(options.check(given));
  const { inflect: bend = 0 } = given;
  if (bend !== 0 && given.r === undefined)
    throw new InvalidArgumentError('inflect', bend, 'absent without r, whose schedule it bends');
  return defineReducer({
    name: 'tome',
    at: [insideVisionLayers],
    requires: { similar: similarityBy(keys({ layer: 'before', heads: 'mean' })) },
    rule: mergeBipartite('similar', amount),
    plan: async ({ length, sizes, entered = length, encoder, signals }, { layer }) => {
      if (!encoder) throw new InvalidArgumentError('tokens.encoder', encoder, 'there, inside a layer');
      const { counts, warnings } = resolveMerging(amount, entered, encoder.layers);
      const notes = layer === 0 ? warnings : [];
      const count = Math.min(counts[Number(layer)], Math.floor(length / 2));
      if (count === 0) return identityPlan(length, { warnings: notes });
      const halves = halvesOf(length, encoder.prefixTokens);
      const merged = bipartiteMerge({
        ...halves,
        cosines: await signals.similar.cosines(halves.firsts),
        sizes: sizes ?? new Float32Array(length).fill(1),
        count,
        order: encoder.prefixTokens > 0 ? 'place' : 'similarity',
      });
      return withWarnings(merged, notes);
    },
  });
}

function amountOf(checked: ReturnType<typeof options.check>): MergeAmount {
  if (checked.r !== undefined) return { r: checked.r, inflect: checked.inflect };
  return budgetOf(checked) ?? byDefault;
}

/** How `foveate` and other registries know the method. */
export const tomeEntry: ReducerEntry = reducerEntry({
  name: 'tome',
  description: 'in every layer of the encoder the most similar patches, merged (ToMe)',
  options,
  create: tome,
});
