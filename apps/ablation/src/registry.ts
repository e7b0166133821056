/** The methods that the command knows: the one table that `methods`, `ask` and `ablate` read. */
import {
  budgetOptions,
  choiceOption,
  createRegistry,
  flagOption,
  massOption,
  numberOption,
  reducerEntry,
  type ReducerRegistry,
} from '@foveate/core';
import { createFastv, fastvDefaults, type FastvOptions } from '@foveate/fastv';
import { createFopruRank, fopruRankDefaults, type FopruRankOptions } from '@foveate/fopru-rank';
import { createFopruRow, fopruRowDefaults, type FopruRowOptions } from '@foveate/fopru-row';
import {
  createPooling,
  createRandom,
  createUniform,
  poolingDefaults,
  randomDefaults,
  uniformDefaults,
  type PoolingOptions,
  type RandomOptions,
  type UniformOptions,
} from '@foveate/pooling';
import {
  createPrumerge,
  createPrumergePlus,
  prumergeDefaults,
  type PrumergeOptions,
} from '@foveate/prumerge';

const significance = choiceOption(
  'significance',
  'marginal of the attention',
  ['variance', 'low-variance', 'given', 'received'],
  fopruRankDefaults.significance,
);

/** Of PruMerge and PruMerge+, which choose the number of tokens by the image unless told one. */
const prumergeOptions = [
  ...budgetOptions(),
  choiceOption(
    'layer',
    'encoder layer of attention and keys; official code: last',
    ['features', 'last'],
    prumergeDefaults.layer,
  ),
  choiceOption(
    'preset',
    'where the official code and the paper differ',
    ['official-code', 'paper'],
    prumergeDefaults.preset,
  ),
];

export const registry: ReducerRegistry = createRegistry([
  reducerEntry<FopruRankOptions>({
    name: 'fopru-rank',
    description: 'FoPru by rank: the tokens of the highest significance',
    stage: 'vision',
    options: [
      ...budgetOptions(fopruRankDefaults.budget),
      massOption(),
      significance,
      flagOption('reorder', 'whether kept tokens stay in their order', fopruRankDefaults.reorder),
    ],
    create: createFopruRank,
  }),
  reducerEntry<FopruRowOptions>({
    name: 'fopru-row',
    description: 'FoPru by row: whole rows of the grid, of the highest summed significance',
    stage: 'vision',
    options: [
      ...budgetOptions(fopruRowDefaults.budget),
      massOption(),
      significance,
      flagOption('reorder', 'whether kept rows stay in their order', fopruRowDefaults.reorder),
    ],
    create: createFopruRow,
  }),
  reducerEntry<FastvOptions>({
    name: 'fastv',
    description: 'the tokens that a layer of the language model attends to most',
    stage: 'language',
    options: [
      numberOption('layer', 'K: layers 0 to K-1 see every token', '1, 2, 3, ...', fastvDefaults.layer),
      ...budgetOptions(fastvDefaults.budget),
      choiceOption(
        'rows',
        'attention of the last token (official code), or mean over the text (paper)',
        ['last', 'mean'],
        fastvDefaults.rows,
      ),
    ],
    create: createFastv,
  }),
  reducerEntry<PrumergeOptions>({
    name: 'prumerge',
    description: 'those that stand out by class attention, the others merged into them',
    stage: 'vision',
    options: prumergeOptions,
    create: createPrumerge,
  }),
  reducerEntry<PrumergeOptions>({
    name: 'prumerge-plus',
    description: 'PruMerge with an even sample of the tokens beside',
    stage: 'vision',
    options: prumergeOptions,
    create: createPrumergePlus,
  }),
  reducerEntry<PoolingOptions>({
    name: 'pooling',
    description: 'the mean or maximum of each four neighbours; keeps 25 %, takes no budget',
    stage: 'vision',
    options: [
      choiceOption('window', 'rows x columns that become one token', ['2x2', '1x4'], poolingDefaults.window),
      choiceOption('mode', 'what becomes of a window', ['mean', 'max'], poolingDefaults.mode),
    ],
    create: createPooling,
  }),
  reducerEntry<UniformOptions>({
    name: 'uniform',
    description: 'an even grid of tokens, whatever the image shows: a floor',
    stage: 'vision',
    options: budgetOptions(uniformDefaults.budget),
    create: createUniform,
  }),
  reducerEntry<RandomOptions>({
    name: 'random',
    description: 'a draw by the seed and the image: the other floor',
    stage: 'vision',
    options: [
      ...budgetOptions(randomDefaults.budget),
      numberOption('seed', 'another seed draws other tokens', '0, 1, 2, ...', randomDefaults.seed),
    ],
    create: createRandom,
  }),
]);
