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

const significance = choiceOption(
  'significance',
  'marginal of the attention',
  ['variance', 'low-variance', 'given', 'received'],
  fopruRankDefaults.significance,
);

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
