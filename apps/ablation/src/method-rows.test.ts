import { readDataset, type Question } from '@foveate/eval';
import { Lvlm } from '@foveate/lvlm';
import { modelDirectory, questionsFile } from '@foveate/tiny-llava';
import { createRegistry, reducerEntry, type ReducerRegistry } from '@foveate/core/registry';
import {
  atFeatures,
  beforeLanguageLayer,
  beforeVisionLayer,
  budgetOptions,
  classAttention,
  defineOptions,
  defineReducer,
  identityPlan,
  layerOption,
  scaledLayer,
  selectionPlan,
  type DeclaredSite,
  type Requirements,
} from '@foveate/core';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { MODEL } from '../test/run.js';
import { candidatesOf, chooseMethodRows } from './method-rows.js';
import { registry } from './registry.js';

/** Keeps everything, whatever it is told. */
function method(
  name: string,
  at: readonly DeclaredSite[],
  requires: Requirements = {},
): ReturnType<typeof reducerEntry> {
  const options = defineOptions(budgetOptions({ keepRatio: 0.25 }));
  const create = () =>
    defineReducer({ name, at, requires, plan: async ({ length }) => identityPlan(length) });
  return reducerEntry({ name, description: name, options, create });
}

/** The same with a fixed layer that can be chosen. */
function layered(name: string, layer: number, site: (layer: number) => DeclaredSite) {
  const options = defineOptions({
    layer: layerOption(layer, 'where'),
    ...budgetOptions({ keepRatio: 0.25 }),
  });
  return reducerEntry({
    ...{ name, description: name, options },
    create: (given) =>
      defineReducer({
        ...{ name, at: [site(options.check(given).layer)], requires: {} },
        plan: async ({ length }) => identityPlan(length),
      }),
  });
}

const specsOf = (methods: ReducerRegistry, vision: number, language: number): string[] =>
  candidatesOf(methods, { vision, language }).map(({ spec, impossible }) =>
    impossible === null ? spec : `${spec} impossible`,
  );

describe('candidatesOf', () => {
  const methods = createRegistry([
    method('features', [atFeatures]),
    layered('early', 8, beforeVisionLayer),
    layered('late', 3, beforeLanguageLayer),
    method('scaled', [beforeLanguageLayer(scaledLayer(2, 32))]),
    method('stages', [beforeLanguageLayer(scaledLayer(8, 32)), beforeLanguageLayer(scaledLayer(16, 32))]),
  ]);

  it('in a model of the size that methods were made for', () => {
    // late at 192: (32 / 3 - 3) / 29 = .26437 of the tokens from layer 3 on; at 128 and 64 (64 / 9 - 3) / 29
    // and (32 / 9 - 3) / 29. scaled the same with 2 in place of 3, over 30.
    expect(specsOf(methods, 24, 32)).toEqual([
      ...['features:keep=0.3334', 'early:keep=0.3334', 'late:keep=0.2644', 'scaled:keep=0.2889'],
      'stages:keep=0.3334',
      ...['features:keep=0.2223', 'early:keep=0.2223', 'late:keep=0.1418', 'scaled:keep=0.1704'],
      'stages:keep=0.2223',
      ...['features:keep=0.1112', 'early:keep=0.1112', 'late:keep=0.0192', 'scaled:keep=0.0519'],
      'stages:keep=0.1112',
    ]);
  });

  it('in a shallow one, at layers as far on the way, and says what cannot be', () => {
    // 8 of 24 is 2 of 6; 3 and 2 of 32 would be .56 and .375 of 6, both layer 1: (6 / 3 - 1) / 5 = .2 and
    // (6 * 2 / 9 - 1) / 5 = .0667, and at 64 one layer alone is 1 / 6 > 1 / 9
    expect(specsOf(methods, 6, 6)).toEqual([
      ...['features:keep=0.3334', 'early:layer=2:keep=0.3334', 'late:layer=1:keep=0.2', 'scaled:keep=0.2'],
      'stages:keep=0.3334',
      ...['features:keep=0.2223', 'early:layer=2:keep=0.2223', 'late:layer=1:keep=0.0667'],
      ...['scaled:keep=0.0667', 'stages:keep=0.2223'],
      ...['features:keep=0.1112', 'early:layer=2:keep=0.1112', 'late:layer=1 impossible'],
      ...['scaled impossible', 'stages:keep=0.1112'],
    ]);
  });

  it('keeps the tokens of the budgets, rounding down', () => {
    const keeps = specsOf(createRegistry([method('m', [atFeatures])]), 24, 32).map((spec) =>
      Number(spec.slice('m:keep='.length)),
    );
    for (const length of [576, 256, 2880]) {
      expect(keeps.map((keep) => Math.floor(length * keep + 1e-9))).toEqual(
        [3, 4.5, 9].map((part) => Math.floor(length / part + 1e-9)),
      );
    }
  });

  it('has the methods that take no budget last, once', () => {
    expect(specsOf(registry, 24, 32).filter((spec) => spec.startsWith('pooling'))).toEqual(['pooling']);
    expect(specsOf(registry, 24, 32).at(-1)).toBe('pooling');
    expect(specsOf(registry, 24, 32).filter((spec) => spec.startsWith('prumerge:'))).toHaveLength(3);
  });
});

describe('chooseMethodRows', () => {
  /** Its encoder has no class token, its language model three layers. */
  const SIGLIP = path.join(MODEL, '../families/llava');
  let questions: readonly Question[];
  beforeAll(async () => {
    ({ questions } = await readDataset(questionsFile));
  });

  it('leaves out what the model cannot run, once a method, and what reads more than its budget', async () => {
    const methods = createRegistry([
      ...['random', 'fastervlm', 'fastv'].map((name) => registry.get(name)),
      method('all', [atFeatures]),
      method('deep', [beforeLanguageLayer(9)]),
      method('needs-class', [atFeatures], { attention: classAttention() }),
    ]);
    await using model = await Lvlm.load(SIGLIP);
    const broken = { ...questions[0], image: 'none.png' };
    const { rows, omitted } = await chooseMethodRows(methods, model, [broken, ...questions], 'crop');
    const draws = (keep: string): [string, string | undefined][] => [
      [`random:keep=${keep}`, undefined],
      ...[1, 2, 3, 4].map((seed): [string, string] => [
        `random:keep=${keep}:seed=${seed}`,
        `random:keep=${keep}`,
      ]),
    ];
    expect(rows.map(({ reducer, drawOf }) => [reducer, drawOf])).toEqual([
      ['none', undefined],
      ...['0.3334', '0.2223', '0.1112'].flatMap(draws),
    ]);
    expect(rows.map(({ reducers }) => reducers.length)).toEqual([0, ...Array<number>(15).fill(1)]);
    const lines = omitted.map(({ reducer, reason }) => `${reducer}: ${reason}`);
    expect(lines.filter((line) => line.startsWith('fastervlm'))).toEqual([
      expect.stringContaining('fastervlm: Signal classAttention@features:mean is not available') as string,
    ]);
    expect(lines.filter((line) => line.startsWith('needs-class'))).toHaveLength(1);
    expect(lines.filter((line) => line.startsWith('all:'))).toEqual([
      expect.stringMatching(/^all:keep=0.3334: A layer reads (\S+) tokens on average here, and the budget/),
      expect.stringMatching(/^all:keep=0.2223: /),
      expect.stringMatching(/^all:keep=0.1112: /),
    ]);
    expect(lines.filter((line) => line.startsWith('deep'))).toEqual([
      expect.stringContaining('deep: deep reduces tokens before layer 9') as string,
    ]);
    // One of three layers is a third already.
    expect(lines.find((line) => line.startsWith('fastv:'))).toContain(
      '1 of 3 layers read every token, which is ',
    );
  });

  it('seeks the share of a method of several sites whose mean is another here', async () => {
    const options = defineOptions(budgetOptions({ keepRatio: 0.25 }));
    const staged = reducerEntry({
      ...{
        name: 'staged',
        description: 'keeps its share before layer 1 of 6, half of that before 3',
        options,
      },
      create: (given) => {
        const { keepRatio = 1 } = options.check(given);
        const first = (count: number, of: number) => selectionPlan([...Array(Math.max(1, count)).keys()], of);
        return defineReducer({
          ...{ name: 'staged', requires: {} },
          at: [beforeLanguageLayer(scaledLayer(5, 32)), beforeLanguageLayer(scaledLayer(16, 32))],
          plan: async ({ length }, _, stage) =>
            first(Math.floor(length * (stage === 0 ? keepRatio : 0.5)), length),
        });
      },
    });
    await using model = await Lvlm.load(modelDirectory);
    const { rows, omitted } = await chooseMethodRows(createRegistry([staged]), model, questions, 'crop');
    // With k of 256 a layer reads (256 + 2 k + 3 floor(k / 2)) / 6 on average. Of the budgets 85.33 and 56.89
    // 85 is nearest, of k = 73 (74: 85.83), and 57, of k = 25 (24: 56.67, 26: 57.83 and halving ends there).
    expect(rows.map(({ reducer }) => reducer)).toEqual([
      'none',
      'staged:keep=0.2852',
      expect.stringMatching(/^staged:keep=0\.09[78]/) as string,
    ]);
    // One token is the least that it keeps: (256 + 2 + 3) / 6.
    expect(omitted).toEqual([
      {
        reducer: 'staged:keep=0.1112',
        reason: 'A layer reads at least 43.5 tokens on average here, and the budget is 28.4.',
      },
    ]);
  });

  it('tells of questions whose images cannot be read at all', async () => {
    await using model = await Lvlm.load(MODEL);
    const broken = { ...questions[0], image: 'none.png' };
    await expect(chooseMethodRows(registry, model, [broken, broken], 'crop')).rejects.toThrow('none.png');
  });
});
