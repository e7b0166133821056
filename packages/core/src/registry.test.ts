import { describe, expect, it } from 'vitest';
import type { ScoreBudget } from './budget.js';
import { InvalidArgumentError, UnknownReducerError } from './errors.js';
import { identityPlan } from './plan.js';
import { defineReducer, type VisionReducer } from './reducer.js';
import {
  budgetOptions,
  choiceOption,
  createRegistry,
  flagOption,
  massOption,
  numberOption,
  reducerEntry,
} from './registry.js';

interface Options {
  budget: ScoreBudget;
  mode: 'mean' | 'max';
  reorder: boolean;
  seed: number;
}

let made: Partial<Options> = {};

const entry = reducerEntry<Options>({
  name: 'mine',
  description: 'keeps what it likes',
  stage: 'vision',
  options: [
    ...budgetOptions({ keepRatio: 0.25 }),
    massOption(),
    choiceOption('mode', 'how', ['mean', 'max'], 'mean'),
    flagOption('reorder', 'whether', true),
    numberOption('seed', 'which', '0, 1, 2, ...', 0),
  ],
  create: (options) => {
    made = options;
    return defineReducer<VisionReducer>({
      specificationVersion: 1,
      name: 'mine',
      stage: 'vision',
      requires: [],
      plan: async (tokens) => identityPlan(tokens.length),
    });
  },
});

describe('an entry', () => {
  it('lists its options with defaults', () => {
    expect(entry.options.map((option) => [option.name, option.values, option.default])).toEqual([
      ['keep', '(0, 1]', '0.25'],
      ['count', '1, 2, 3, ...', ''],
      ['mass', '(0, 1]', ''],
      ['mode', 'mean | max', 'mean'],
      ['reorder', 'true | false', 'true'],
      ['seed', '0, 1, 2, ...', '0'],
    ]);
  });

  it('makes its reducer from text', () => {
    expect(entry.create({ keep: '0.5', mode: 'max', reorder: 'false', seed: '7' }).name).toBe('mine');
    expect(made).toEqual({ budget: { keepRatio: 0.5 }, mode: 'max', reorder: false, seed: 7 });
    entry.create({ count: '32' });
    expect(made).toEqual({ budget: { keepCount: 32 } });
    entry.create({ mass: '0.8' });
    expect(made).toEqual({ budget: { attentionMass: 0.8 } });
    entry.create();
    expect(made).toEqual({});
  });

  it('names no default budget where the method has a rule of its own', () => {
    expect(budgetOptions().map((option) => option.default)).toEqual(['', '']);
    expect(budgetOptions({ keepCount: 32 }).map((option) => option.default)).toEqual(['', '32']);
  });

  it.each([
    [{ kep: '0.5' }, 'one of its options (keep, count, mass, mode, reorder, seed); received "kep"'],
    [{ keep: 'half' }, 'keep must be a number; received "half"'],
    [{ seed: '' }, 'seed must be a number; received ""'],
    [{ mode: 'sum' }, 'mode must be mean | max; received "sum"'],
    [{ reorder: 'yes' }, 'reorder must be true | false; received "yes"'],
    [{ keep: '0.5', count: '3' }, 'budget must be set by one option only'],
    [{ keep: '0.5', mass: '0.8' }, 'budget must be set by one option only'],
    [{ mass: 'most' }, 'mass must be a number; received "most"'],
    [{ toString: 'x' }, 'received "toString"'],
  ])('refuses %j', (texts, message) => {
    const create = (): unknown => entry.create(texts);
    expect(create).toThrow(InvalidArgumentError);
    expect(create).toThrow(message);
  });
});

describe('createRegistry', () => {
  it('finds by name and lists the known names otherwise', () => {
    const registry = createRegistry([entry, { ...entry, name: 'other' }]);
    expect(registry.get('mine')).toBe(entry);
    expect(registry.entries.map(({ name }) => name)).toEqual(['mine', 'other']);
    expect(() => registry.get('theirs')).toThrow(UnknownReducerError);
    expect(() => registry.get('theirs')).toThrow('Known reducers: mine, other');
  });

  it('refuses two of one name', () => {
    expect(() => createRegistry([entry, entry])).toThrow('reducers of different names');
  });
});
