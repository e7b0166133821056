import { describe, expect, it } from 'vitest';
import { InvalidArgumentError, UnknownReducerError } from '../errors.js';
import {
  budgetOptions,
  choiceOption,
  defineOptions,
  integerOption,
  layerOption,
  listOption,
  scoreBudgetOptions,
  numberOption,
  type OptionsOf,
} from '../options.js';
import { identityPlan } from '../plan.js';
import { defineReducer, type TokenReducer } from '../reducer.js';
import { atFeatures } from '../sites.js';
import { createRegistry, modifierEntry, reducerEntry } from './registry.js';

const options = defineOptions({
  ...scoreBudgetOptions({ keepRatio: 0.25 }),
  mode: choiceOption(['mean', 'max'], 'how'),
  seed: integerOption({ from: 0, default: 0 }, 'which'),
  layer: layerOption(-1, 'where'),
  shares: listOption(numberOption({ from: 0, to: 1, default: 1 }, 'share'), [0.5, 0.25], 'how much'),
});

type MineOptions = OptionsOf<typeof options.schema>;

let made: MineOptions = {};

function mine(given: MineOptions = {}): TokenReducer {
  made = given;
  options.check(given);
  return defineReducer({
    name: 'mine',
    at: [atFeatures],
    requires: {},
    plan: async ({ length }) => identityPlan(length),
  });
}

const entry = reducerEntry({ name: 'mine', description: 'keeps what it likes', options, create: mine });

describe('an entry', () => {
  it('lists its options with defaults', () => {
    expect(entry.options.map((option) => [option.name, option.values, option.default])).toEqual([
      ['keep', '(0, 1]', '0.25'],
      ['count', '1, 2, 3, ...', ''],
      ['mass', '(0, 1]', ''],
      ['mode', 'mean | max', 'mean'],
      ['seed', '0, 1, 2, ...', '0'],
      ['layer', '1, 2, ... or -1, -2, ...', '-1'],
      ['shares', '[0, 1], several joined by /', '0.5/0.25'],
    ]);
  });

  it('says what each is called in code, what it does, and which of them state a budget', () => {
    expect(entry.options.map(({ name, option, isBudget }) => [name, option, isBudget])).toEqual([
      ['keep', 'keepRatio', true],
      ['count', 'keepCount', true],
      ['mass', 'attentionMass', true],
      ['mode', 'mode', false],
      ['seed', 'seed', false],
      ['layer', 'layer', false],
      ['shares', 'shares', false],
    ]);
    expect(entry.options.map(({ description }) => description).slice(3)).toEqual([
      'how',
      'which',
      'where',
      'how much',
    ]);
  });

  it('makes its reducer from text', () => {
    expect(entry.create({ keep: '0.5', mode: 'max', seed: '7', layer: '-2' }).name).toBe('mine');
    expect(made).toEqual({ keepRatio: 0.5, mode: 'max', seed: 7, layer: -2 });
    entry.create({ count: '32' });
    expect(made).toEqual({ keepCount: 32 });
    entry.create({ shares: '1/0.5/0' });
    expect(made).toEqual({ shares: [1, 0.5, 0] });
    entry.create({ mass: '0.8' });
    expect(made).toEqual({ attentionMass: 0.8 });
    entry.create();
    expect(made).toEqual({});
  });

  it('names no default budget where the method has a rule of its own', () => {
    const { options: listed } = reducerEntry({
      name: 'other',
      description: 'goes its own way',
      options: defineOptions(budgetOptions()),
      create: () => mine(),
    });
    expect(listed.map((option) => option.default)).toEqual(['', '']);
  });

  it('makes what it lists as default where that is written out', () => {
    const isDefault = ({ default: text }: { default: string }): boolean => text !== '';
    entry.create(Object.fromEntries(entry.options.filter(isDefault).map((o) => [o.name, o.default])));
    expect(options.check(made)).toEqual(options.check({}));
  });

  it.each([
    [{ kep: '0.5' }, 'one of its options (keep, count, mass, mode, seed, layer, shares); received "kep"'],
    [
      { keepRatio: '0.5' },
      'one of its options (keep, count, mass, mode, seed, layer, shares); received "keepRatio"',
    ],
    [{ keep: 'half' }, 'keep must be a number: (0, 1]; received "half"'],
    [{ seed: '' }, 'seed must be a number: 0, 1, 2, ...; received ""'],
    [{ seed: ' ' }, 'seed must be a number'],
    [{ seed: 'Infinity' }, 'seed must be a number'],
    [{ seed: '0.5' }, 'seed must be an integer'],
    [{ layer: '0' }, 'layer must be a whole number'],
    [{ shares: '0.5/half' }, 'shares must be numbers: [0, 1], several joined by /; received "0.5/half"'],
    [{ shares: '0.5/' }, 'shares must be numbers'],
    [{ shares: '0.5/2' }, 'shares[1] must be a number in [0, 1]; received 2'],
    [{ mode: 'sum' }, "mode must be 'mean' or 'max'; received \"sum\""],
    [{ keep: '2' }, 'keep must be a number in (0, 1]'],
    [{ count: '1.5' }, 'count must be a positive integer'],
    [{ keep: '0.5', count: '3' }, 'keep and count must be given one at a time'],
    [{ keep: '0.5', mass: '0.8' }, 'keep and mass must be given one at a time'],
    [{ mass: 'most' }, 'mass must be a number: (0, 1]; received "most"'],
    [{ toString: 'x' }, 'received "toString"'],
  ])('refuses %j', (texts, message) => {
    const create = (): unknown => entry.create(texts);
    expect(create).toThrow(InvalidArgumentError);
    expect(create).toThrow(message);
  });

  it('says so where a method takes no options', () => {
    const plain = reducerEntry({
      name: 'plain',
      description: 'does what it does',
      options: defineOptions({}),
      create: () => mine(),
    });
    expect(plain.options).toEqual([]);
    expect(() => plain.create({ keep: '0.5' })).toThrow(
      'option of plain must be one of its options (none: it takes no options); received "keep"',
    );
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

  it('knows modifiers, which make a method of another', () => {
    const twice = modifierEntry({
      name: 'twice',
      description: 'does it twice',
      options: defineOptions({ seed: integerOption({ from: 0, default: 0 }, 'which') }),
      modify: (base, { seed }) => ({ ...base, name: `${base.name}-twice-${seed}` }),
    });
    const registry = createRegistry([entry], [twice]);
    expect(registry.modifier('twice')?.modify(entry.create(), { seed: '7' }).name).toBe('mine-twice-7');
    expect(registry.modifier('mine')).toBeUndefined();
    expect(() => registry.get('twice')).toThrow(UnknownReducerError);
    expect(() => twice.modify(entry.create(), { sed: '7' })).toThrow('option of twice must be one of');
    expect(() => createRegistry([entry], [{ ...twice, name: 'mine' }])).toThrow(
      'reducers of different names',
    );
  });

  it('refuses two of one name', () => {
    expect(() => createRegistry([entry, entry])).toThrow('reducers of different names');
  });
});
