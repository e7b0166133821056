/** Answers: all tokens kept as transformers.js alone, a quarter kept as @foveate/lvlm. */
import { identityPlan, atFeatures, defineReducer, type ReductionPlan } from '@foveate/core';
import { fopruRank } from '@foveate/fopru-rank';
import { fopruRow } from '@foveate/fopru-row';
import { Lvlm } from '@foveate/lvlm';
import { pooling } from '@foveate/pooling';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  answer,
  CLIP,
  encoderOf,
  inputsOf,
  load,
  METHODS,
  nameOf,
  questions,
  SIGLIP,
  TINY,
  type Ask,
  type Loaded,
} from '../test/models.js';
import { reduceVisualTokens } from './index.js';

/** All but the weights, which the two runtimes' own sums may round otherwise. */
const choices = ({
  inputLength,
  outputLength,
  offsets,
  sources,
  anchors,
  combine,
}: ReductionPlan): object => ({
  ...{ inputLength, outputLength, offsets, sources, anchors, combine },
});

const none = defineReducer({
  name: 'none',
  at: [atFeatures],
  requires: {},
  plan: async ({ length }) => identityPlan(length),
});

const asks = questions(5);

describe.each([
  ['the embedded model', TINY, Object.keys(METHODS), 4],
  ['a random CLIP and Llama', CLIP, Object.keys(METHODS), 12],
  ['a random SigLIP and Qwen2', SIGLIP, ['fopru-rank', 'fopru-row', 'pooling', 'uniform', 'random'], 12],
])('%s', (_, bundle, methods, maxNewTokens) => {
  let loaded: Loaded;
  let lvlm: Lvlm;
  let whole: number[][];
  const answers = async (): Promise<number[][]> => {
    const all: number[][] = [];
    for (const ask of asks) all.push(await answer(loaded, await inputsOf(loaded, ask), maxNewTokens));
    return all;
  };
  beforeAll(async () => {
    loaded = await load(bundle);
    lvlm = await Lvlm.load(bundle, { threads: 1 });
    whole = await answers();
  });
  afterAll(async () => {
    await loaded.model.dispose();
    await lvlm.dispose();
  });
  const ours = async ({ image, question }: Ask, method: string) => {
    const reducers = [METHODS[method]()];
    const given = { images: [image], prompt: question, reducers, maxNewTokens };
    const { tokenIds, images } = await lvlm.generate(given);
    return { tokenIds, plans: images[0].crops[0].steps.map(({ plan }) => plan) };
  };

  test.each(methods)('%s answers as @foveate/lvlm does, by the same plans', async (method) => {
    let image = '';
    await using reduction = await reduceVisualTokens(loaded.model, METHODS[method](), {
      visionEncoder: encoderOf(bundle),
      imageHash: () => nameOf(image),
    });
    for (const ask of asks) {
      ({ image } = ask);
      const tokens = await answer(loaded, await inputsOf(loaded, ask), maxNewTokens);
      const expected = await ours(ask, method);
      expect(tokens, ask.question).toEqual(expected.tokenIds);
      expect(reduction.last?.plans.map(choices)).toEqual(expected.plans.map(choices));
      for (const [i, { weights }] of (reduction.last?.plans ?? []).entries()) {
        for (const [e, weight] of (weights ?? []).entries())
          expect(weight).toBeCloseTo(expected.plans[i].weights?.[e] ?? NaN, 5);
      }
      expect(reduction.last?.outputTokens).toBeLessThan(reduction.last?.inputTokens ?? 0);
    }
  });

  test.each([
    ['no reducer', []],
    ['a plan that keeps all', [none]],
    ['a ratio of 1', [fopruRank({ keepRatio: 1 })]],
    ['a chain of both', [none, fopruRow({ keepRatio: 1 })]],
  ])('%s answers as transformers.js alone', async (__, reducers) => {
    const options = { visionEncoder: encoderOf(bundle) };
    await using reduction = await reduceVisualTokens(loaded.model, reducers, options);
    expect(await answers()).toEqual(whole);
    expect(reduction.last?.outputTokens).toBe(reduction.last?.inputTokens);
  });

  test('a chain answers as @foveate/lvlm does', async () => {
    const reducers = [fopruRow({ keepRatio: 0.5 }), pooling()];
    const options = { visionEncoder: encoderOf(bundle) };
    await using reduction = await reduceVisualTokens(loaded.model, reducers, options);
    for (const { image, question } of asks) {
      const tokens = await answer(loaded, await inputsOf(loaded, { image, question }), maxNewTokens);
      const given = { images: [image], prompt: question, reducers, maxNewTokens };
      expect(tokens).toEqual((await lvlm.generate(given)).tokenIds);
      expect(reduction.last?.plans).toHaveLength(2);
    }
  });

  test('restored it answers as before', async () => {
    const options = { visionEncoder: encoderOf(bundle) };
    const reduction = await reduceVisualTokens(loaded.model, METHODS.uniform(), options);
    expect(Object.hasOwn(loaded.model, 'forward')).toBe(true);
    await answers();
    await reduction.restore();
    expect(Object.hasOwn(loaded.model, 'forward')).toBe(false);
    expect(await answers()).toEqual(whole);
  });

  test('reductions change answers of random models', async () => {
    if (bundle === TINY) return;
    const options = { visionEncoder: encoderOf(bundle) };
    await using reduction = await reduceVisualTokens(loaded.model, METHODS.uniform(), options);
    expect(await answers()).not.toEqual(whole);
    expect(reduction.last).not.toBeNull();
  });
});
