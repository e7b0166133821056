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
  keyMagnitude,
  questionKeyMagnitude,
  questionStates,
  resolveBudget,
  scaledLayer,
  selectionPlan,
  similarityBy,
  topIndices,
  type OptionsOf,
  type TokenReducer,
} from '@foveate/core';
import { reducerEntry, type ReducerEntry } from '@foveate/core/registry';
import { cosinesOfPivots, inSetOrder, takeLeastSimilar } from './pivots.js';

const byDefault = { keepRatio: 0.25 };

/** Layers of the language model for which the method was made, LLaVA-1.5-7B's. */
const LAYERS = 32;

const options = defineOptions({
  ...budgetOptions(byDefault),
  layer: integerOption(
    { from: 1, to: LAYERS - 1, default: 2 },
    `K, of a language model of ${LAYERS} layers (in a shallower one as far on the way, in a deeper one the same): layers 0 to K-1 see every visual token`,
  ),
  imagePivots: integerOption(
    { from: 1, default: 4 },
    'visual tokens of the largest keys, which are kept and keep others',
  ),
  questionPivots: integerOption(
    { from: 0, default: 4 },
    'tokens of the largest keys behind the image, which keep visual tokens too',
  ),
  preset: choiceOption(
    ['exact', 'official-code'],
    'keep exactly the budget, image pivots included; or as the official code counts: image pivots, and floor(budget / pivots) for each pivot, so that "128" keeps 132',
  ),
});

/** Options of {@link dart}; the README's table says what each does. */
export type DartOptions = OptionsOf<typeof options.schema>;

/**
 * DART (arXiv 2502.11494; official code: ZichenWen1/DART): keeps what repeats the least. Pivots are the
 * visual tokens, and the tokens behind the image, whose keys in layer K-1 have the largest L1 norm; each pivot
 * in turn keeps the visual tokens that are left and least similar to it, by the cosine of what layer K-1 put
 * out, behind the model's final normalisation. Image pivots are kept, question pivots are text and stay
 * anyway. The turns are the official code's: the order of a CPython set of the pivots' places in the prompt
 * (where a runner does not say these, visual tokens count from 0 and the question behind). Kept tokens stand
 * in their original order and positions; all images of a prompt are chosen from together; ties to the lower
 * index. Where a prompt has fewer tokens behind the image than pivots are asked for, it takes what there is;
 * the official code raises there, and where a pivot has too few tokens left.
 * @throws InvalidArgumentError on an option out of its range
 * @example
 * dart({ keepCount: 132 }); // the same tokens as dart({ keepCount: 128, preset: 'official-code' })
 */
export function dart(given: DartOptions = {}): TokenReducer {
  const checked = options.check(given);
  const { layer, imagePivots, questionPivots, preset } = checked;
  const budget = budgetOf(checked) ?? byDefault;
  return defineReducer({
    name: 'dart',
    at: [beforeLanguageLayer(scaledLayer(layer, LAYERS))],
    requires: {
      magnitude: keyMagnitude({ layer: 'before' }),
      questionMagnitude: questionKeyMagnitude({ layer: 'before' }),
      similar: similarityBy(hiddenStates({ layer: 'before', norm: 'final' })),
      question: questionStates({ layer: 'before', norm: 'final' }),
    },
    plan: async ({ length, places, signals }) => {
      const { magnitude, questionMagnitude, similar, question } = signals;
      const { count, warnings } = resolveBudget(budget, length);
      if (count === length) return identityPlan(length, { warnings });
      const ofImage = Math.min(imagePivots, preset === 'exact' ? count : length);
      const pivots = inSetOrder(
        largest(magnitude, ofImage),
        largest(questionMagnitude, Math.min(questionPivots, questionMagnitude.length)),
        places ?? magnitude.map((_, token) => token),
      );
      const cosines = await cosinesOfPivots(pivots, similar, question, questionMagnitude.length);
      const shares =
        preset === 'exact'
          ? evenShares(count - ofImage, pivots.length)
          : pivots.map(() => Math.floor(count / pivots.length));
      return selectionPlan(takeLeastSimilar(pivots, shares, cosines).sort(), length, { warnings });
    },
  });
}

/** How `foveate` and other registries know the method. */
export const dartEntry: ReducerEntry = reducerEntry({
  name: 'dart',
  description: 'from a layer of the language model on, the tokens that repeat pivots the least (DART)',
  options,
  create: dart,
});

/** Indices of the `count` largest values, in descending order. */
function largest(values: Float32Array, count: number): number[] {
  return count === 0 ? [] : Array.from(topIndices(values, count));
}

/** `count` in `parts` whole numbers that differ by at most one, the larger ones first. */
function evenShares(count: number, parts: number): number[] {
  const [share, rest] = [Math.floor(count / parts), count % parts];
  return Array.from({ length: parts }, (_, part) => share + (part < rest ? 1 : 0));
}
