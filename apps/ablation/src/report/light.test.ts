import {
  atFeatures,
  createPlan,
  identityPlan,
  maxPlan,
  mergePlan,
  selectionPlan,
  type ReductionPlan,
} from '@foveate/core';
import type { StepReport } from '@foveate/lvlm';
import { expect, it } from 'vitest';
import { lightOf, mergedInto } from './light.js';

const step = (plan: ReductionPlan): StepReport => ({
  ...{ site: atFeatures, reducer: 'r', kept: null, plan },
  ...{ inputTokens: plan.inputLength, outputTokens: plan.outputLength },
});

it.each<[string, ReductionPlan[], number[]]>([
  ['nothing reduced', [], [1, 1, 1, 1]],
  ['the identity', [identityPlan(4)], [1, 1, 1, 1]],
  ['a selection', [selectionPlan([3, 1], 4)], [0, 1, 0, 1]],
  ['two selections', [selectionPlan([3, 1, 0], 4), selectionPlan([0, 2], 3)], [1, 0, 0, 1]],
  ['the greatest of each pair', [maxPlan([[0, 2], [1]], 4)], [1, 1, 1, 0]],
  [
    'a merge: beside 0.8, 0.2 is a quarter',
    [createPlan({ inputLength: 4, offsets: [0, 2, 3], sources: [0, 1, 3], weights: [0.2, 0.8, 1] })],
    [0.25, 1, 0, 1],
  ],
  [
    'a token in two merges: the brightest counts',
    [
      createPlan({
        inputLength: 4,
        offsets: [0, 2, 4],
        sources: [0, 1, 1, 2],
        weights: [0.5, 0.25, 0.5, 0.5],
      }),
    ],
    [1, 1, 1, 0],
  ],
  [
    'a merge of which one output is then dropped',
    [
      mergePlan(
        [
          { sources: [0, 1], weights: [0.5, 0.5] },
          { sources: [2], weights: [1] },
        ],
        4,
      ),
      selectionPlan([1], 2),
    ],
    [0, 0, 1, 0],
  ],
])('%s', (_, plans, expected) => {
  expect(lightOf({ inputTokens: 4, steps: plans.map(step) })).toEqual(expected);
});

it('is nothing where the language model kept none of this image', () => {
  const none = {
    ...selectionPlan([0], 2),
    outputLength: 0,
    offsets: Uint32Array.of(0),
    sources: new Uint32Array(0),
  };
  expect(lightOf({ inputTokens: 2, steps: [step(none)] })).toEqual([0, 0]);
});

const pairs = maxPlan([[0, 2], [1]], 4);

it.each<[string, ReductionPlan[], number[] | null]>([
  ['nothing reduced', [], null],
  ['a selection', [selectionPlan([3, 1], 4)], null],
  ['groups, one token dropped', [pairs], [0, 1, 0, -1]],
  ['a group that is then dropped, so that nothing is merged', [pairs, selectionPlan([1], 2)], null],
  ['groups of what was selected', [selectionPlan([3, 1, 0], 4), maxPlan([[0, 2], [1]], 3)], [0, 1, -1, 0]],
  ['groups that are then merged', [pairs, maxPlan([[0, 1]], 2)], [0, 0, 0, -1]],
  [
    'a token in two groups',
    [
      maxPlan(
        [
          [0, 1],
          [1, 2],
        ],
        4,
      ),
    ],
    null,
  ],
])('frames: %s', (_, plans, expected) => {
  expect(mergedInto({ inputTokens: 4, steps: plans.map(step) })).toEqual(expected);
});
