import {
  atFeatures,
  budgetOf,
  budgetOptions,
  choiceOption,
  clipImageEmbeddings,
  clipTextEmbeddings,
  defineOptions,
  defineReducer,
  identityPlan,
  projectedFeatures,
  resolveBudget,
  selectionPlan,
  similarityBy,
  textEmbeddings,
  type Budget,
  type OptionsOf,
  type ReductionPlan,
  type Similarity,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';
import { greedyMap } from './greedy-map.js';
import { noRelevance, relevanceByClip, relevanceByEmbeddings, type Relevance } from './relevance.js';

const byDefault = { keepRatio: 0.25 };

const options = defineOptions({
  ...budgetOptions(byDefault),
  relevance: choiceOption(
    ['embeddings', 'clip', 'none'],
    'how relevant a token is: by the language model’s embeddings of the prompt, by CLIP (official code; where a caller gives its signals), or all the same',
  ),
});

/** Options of {@link cdpruner}; the README's table says what each does. */
export type CdprunerOptions = OptionsOf<typeof options.schema>;

/**
 * CDPruner (arXiv 2506.10967, section 3; official code: Theia-4869/CDPruner): keeps the tokens that a
 * determinantal point process finds likeliest, diverse among themselves and relevant to the question, in
 * their original order. Plans depend on the prompt, unless `relevance` is `'none'`, and say in a warning
 * which relevance was used.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * cdpruner({ keepCount: 64 });
 */
export function cdpruner(given: CdprunerOptions = {}): TokenReducer {
  const checked = options.check(given);
  const { relevance } = checked;
  const budget = budgetOf(checked) ?? byDefault;
  const method = { name: 'cdpruner', at: [atFeatures] };
  const similar = similarityBy(projectedFeatures());
  switch (relevance) {
    case 'embeddings':
      return defineReducer({
        ...method,
        requires: { similar, text: textEmbeddings() },
        plan: ({ length, signals: { similar, text } }) =>
          keepDiverse(budget, length, similar, () => relevanceByEmbeddings(similar, text, length)),
      });
    case 'clip':
      return defineReducer({
        ...method,
        requires: { similar, seen: similarityBy(clipImageEmbeddings()), question: clipTextEmbeddings() },
        plan: ({ length, signals: { similar, seen, question } }) =>
          keepDiverse(budget, length, similar, () => relevanceByClip(seen, question, length)),
      });
    case 'none':
      return defineReducer({
        ...method,
        requires: { similar },
        plan: ({ length, signals: { similar } }) =>
          keepDiverse(budget, length, similar, () => noRelevance(length)),
      });
  }
}

/** @param measure asked only where something is left to choose */
async function keepDiverse(
  budget: Budget,
  length: number,
  similar: Similarity,
  measure: () => Relevance | Promise<Relevance>,
): Promise<ReductionPlan> {
  const { count, warnings } = resolveBudget(budget, length);
  if (count === length) return identityPlan(length, { warnings });
  const all = Uint32Array.from({ length }, (_, token) => token);
  const relevance = await measure();
  const { kept, byKernel } = greedyMap(await similar.cosines(all), relevance.values, count);
  const filled = byKernel < count ? [RANK_WARNING] : [];
  return selectionPlan(kept.sort(), length, { warnings: [...warnings, relevance.warning, ...filled] });
}

const RANK_WARNING =
  'the tokens point in fewer directions than were to be kept: the last ones are those farthest from what is kept';

/** How `foveate` and other registries know the method. */
export const cdprunerEntry: ReducerEntry = reducerEntry({
  name: 'cdpruner',
  description: 'the tokens that are diverse and relevant to the question (CDPruner)',
  options,
  create: cdpruner,
});
