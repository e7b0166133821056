import {
  atFeatures,
  choiceOption,
  createPlan,
  defineOptions,
  defineReducer,
  integerOption,
  InvalidArgumentError,
  projectedFeatures,
  siteId,
  similarityBy,
  topIndicesAscending,
  UnsupportedReducerError,
  type OptionsOf,
  type ReductionPlan,
  type Similarity,
  type TokenReducer,
} from '@foveate/core';
import { modifierEntry, type ModifierEntry } from '@foveate/core/registry';

const options = defineOptions({
  merged: integerOption(
    { from: 0, default: 0 },
    'number of tokens that the others are merged into; 0: as many as the method keeps',
  ),
  distances: choiceOption(
    ['on', 'off'],
    'whether scores for distant tokens are raised while the prompt is run, for those that are missing between',
  ),
  firstLayer: choiceOption(
    ['uniform', 'own'],
    'sizes of tokens in the first layer of the language model: the same for all (official code), or their own',
  ),
});

/** Options of {@link restore}; the README's table says what each does. */
export type RestoreOptions = OptionsOf<typeof options.schema>;

/**
 * RESTORE (arXiv 2606.01711; official code: cvlab-yonsei/RESTORE, e6971cd) around any method that acts on the
 * features: what the method leaves out is merged into further tokens, and the language model attends to each
 * token as to the many that it stands for, at its original position.
 *
 * The others' anchors are those of the greatest density (sum of cosines of the projected features) times
 * diversity (1 less the cosine to the most alike token that is denser); every other token goes to the anchor
 * that it is most alike, and a group is its plain mean. It stands where the median of its tokens stood.
 * @param base the method, with the budget for what it keeps itself
 * @throws InvalidArgumentError on an option out of its range, and on a method that acts elsewhere. Its plan
 * throws UnsupportedReducerError where the method takes maxima and leaves tokens out
 * @example
 * restore(fopruRank({ keepCount: 32 })); // 32 kept, the others merged into 32
 */
export function restore(base: TokenReducer, given: RestoreOptions = {}): TokenReducer {
  const { merged, distances, firstLayer } = options.check(given);
  if (base.at.map(siteId).join() !== siteId(atFeatures)) {
    throw new InvalidArgumentError('base', base.at.map(siteId), 'a method that acts on the features alone');
  }
  return defineReducer({
    name: `${base.name}-restored`,
    at: [atFeatures],
    requires: { ...base.requires, [SIMILAR]: similarityBy(projectedFeatures()) },
    calibration: { distances: distances === 'on', firstLayer },
    plan: async (tokens, site, stage) => {
      const kept = createPlan(await base.plan(tokens, site, stage));
      const rest = tokensWithout(kept.sources, tokens.length);
      const count = Math.min(merged === 0 ? kept.outputLength : merged, rest.length);
      if (count === 0) return kept;
      if (kept.combine === 'max') {
        throw new UnsupportedReducerError(
          `restore cannot merge what ${base.name} leaves out: ${base.name} takes the maximum of tokens, and no plan does that beside sums.`,
        );
      }
      const cosines = await cosinesAmong(tokens.signals[SIMILAR], rest, tokens.length);
      return withGroups(
        kept,
        mergeAround(cosines, count).map((group) => group.map((i) => rest[i])),
      );
    },
  });
}

/** How `foveate` and other registries know the modifier. */
export const restoreEntry: ModifierEntry = modifierEntry({
  name: 'restore',
  description: 'merges what the method before it leaves out, and calibrates attention to what is left',
  options,
  modify: restore,
});

/** A name among the signals that no method's own has. */
const SIMILAR = 'similar tokens of restore';

/** Ascending, those that are no source. */
function tokensWithout(sources: Uint32Array, length: number): number[] {
  const taken = new Uint8Array(length);
  for (const source of sources) taken[source] = 1;
  return Array.from(taken.keys()).filter((token) => taken[token] === 0);
}

/** Of these tokens with each other: [R, R]. */
async function cosinesAmong(
  similar: Similarity,
  rest: readonly number[],
  length: number,
): Promise<Float32Array> {
  const rows = await similar.cosines(Uint32Array.from(rest)); // [R, N]
  const cosines = new Float32Array(rest.length ** 2);
  let at = 0;
  for (let row = 0; row < rest.length; row++) {
    for (const token of rest) cosines[at++] = rows[row * length + token];
  }
  return cosines;
}

/**
 * Groups of places around `count` anchors, each with its anchor, places ascending.
 * @param cosines [R, R]
 */
export function mergeAround(cosines: Float32Array, count: number): number[][] {
  const length = Math.sqrt(cosines.length); // R
  const density = new Float64Array(length);
  for (let at = 0; at < cosines.length; at++) density[Math.floor(at / length)] += cosines[at];
  const scores = new Float64Array(length);
  for (let i = 0; i < length; i++) {
    let nearest = -1; // none is denser
    for (let j = 0; j < length; j++) {
      if (density[j] > density[i]) nearest = Math.max(nearest, cosines[i * length + j]);
    }
    scores[i] = density[i] * (nearest === -1 ? 1 : 1 - nearest);
  }
  const anchors = topIndicesAscending(scores, count);
  const groups = new Map(Array.from(anchors, (anchor) => [anchor, [anchor]]));
  for (let i = 0; i < length; i++) {
    if (groups.has(i)) continue;
    const to = (anchor: number): number => cosines[i * length + anchor];
    groups.get(anchors.reduce((most, anchor) => (to(anchor) > to(most) ? anchor : most)))?.push(i);
  }
  return [...groups.values()].map((group) => group.sort((a, b) => a - b));
}

/** The plan with a further output for the mean of each group, all in the order of their anchors. */
function withGroups(kept: ReductionPlan, groups: readonly number[][]): ReductionPlan {
  const own = Array.from({ length: kept.outputLength }, (_, m) => {
    const [start, end] = [kept.offsets[m], kept.offsets[m + 1]];
    const sources = Array.from(kept.sources.subarray(start, end));
    return {
      anchor: kept.anchors[m],
      sources,
      weights: sources.map((_, e) => kept.weights?.[start + e] ?? 1),
    };
  });
  const merged = groups.map((sources) => ({
    anchor: sources[(sources.length - 1) >> 1],
    sources,
    weights: sources.map(() => 1 / sources.length),
  }));
  const outputs = [...own, ...merged].sort((a, b) => a.anchor - b.anchor);
  const offsets = [0];
  for (const { sources } of outputs) offsets.push(offsets[offsets.length - 1] + sources.length);
  return createPlan({
    inputLength: kept.inputLength,
    offsets,
    sources: outputs.flatMap(({ sources }) => sources),
    weights: outputs.flatMap(({ weights }) => weights),
    anchors: outputs.map(({ anchor }) => anchor),
    warnings: kept.warnings,
  });
}
