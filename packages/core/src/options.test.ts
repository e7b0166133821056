import { describe, expect, expectTypeOf, it } from 'vitest';
import { InvalidArgumentError } from './errors.js';
import {
  budgetOf,
  budgetOptions,
  choiceOption,
  defineOptions,
  integerOption,
  layerOption,
  listOption,
  numberOption,
  scoreBudgetOf,
  scoreBudgetOptions,
  type OptionsOf,
} from './options.js';

const options = defineOptions({
  ...scoreBudgetOptions({ keepRatio: 0.25 }),
  order: choiceOption(['original', 'score'], 'order of the kept tokens'),
  seed: integerOption({ from: 0, to: 9, default: 3 }, 'which'),
  layer: layerOption(2, 'where'),
});

const defaults = {
  keepRatio: 0.25,
  keepCount: undefined,
  attentionMass: undefined,
  order: 'original',
  seed: 3,
  layer: 2,
};

describe('defineOptions', () => {
  it('fills in the defaults', () => {
    expect(options.check({})).toEqual(defaults);
    expect(options.check({ order: 'score', seed: 0 })).toEqual({ ...defaults, order: 'score', seed: 0 });
  });

  it('takes undefined for absent', () => {
    const given = { keepCount: undefined, seed: undefined } as unknown as OptionsOf<typeof options.schema>;
    expect(options.check(given)).toEqual(defaults);
  });

  it('has the types of what is declared', () => {
    type Given = OptionsOf<typeof options.schema>;
    expectTypeOf<Given['order']>().toEqualTypeOf<'original' | 'score' | undefined>();
    expectTypeOf<Given['keepRatio']>().toEqualTypeOf<number | undefined>();
    const checked = options.check({});
    expectTypeOf(checked.order).toEqualTypeOf<'original' | 'score'>();
    expectTypeOf(checked.seed).toEqualTypeOf<number>();
    expectTypeOf(checked.keepRatio).toEqualTypeOf<number | undefined>();
  });

  it('gives a default of a group only where none of the group is given', () => {
    expect(options.check({ keepCount: 7 })).toEqual({ ...defaults, keepRatio: undefined, keepCount: 7 });
    expect(options.check({ attentionMass: 0.8 })).toEqual({
      ...defaults,
      keepRatio: undefined,
      attentionMass: 0.8,
    });
    expect(options.check({ keepRatio: 1 })).toEqual({ ...defaults, keepRatio: 1 });
  });

  it('needs no default in a group', () => {
    const without = defineOptions(budgetOptions());
    expect(without.check({})).toEqual({ keepRatio: undefined, keepCount: undefined });
  });

  it('checks each of several groups alone', () => {
    const grouped = (
      group: string,
      byDefault: number,
    ): ReturnType<typeof layerOption> & { group: string } => ({
      ...layerOption(byDefault, 'some layer'),
      group,
    });
    const declared = defineOptions({
      ...{ a: grouped('first', 1), b: grouped('first', 2) },
      ...{ c: grouped('second', 3), d: grouped('second', 4) },
    });
    expect(declared.check({ a: 5, d: 6 })).toEqual({ a: 5, b: undefined, c: undefined, d: 6 });
    expect(declared.check({ b: 5 })).toEqual({ a: undefined, b: 5, c: 3, d: 4 });
    expect(() => declared.check({ c: 5, d: 6 })).toThrow('c and d must be given one at a time');
  });

  it.each<[string, unknown, string]>([
    [
      'the budget of version 1',
      { budget: { keepRatio: 0.5 } },
      'option must be one of keepRatio, keepCount, attentionMass, order, seed, layer; received "budget"',
    ],
    ['an unknown option that is undefined', { reorder: undefined }, 'received "reorder"'],
    ['an inherited name', { toString: 1 }, 'received "toString"'],
    ['two budgets', { keepRatio: 0.5, keepCount: 3 }, 'keepRatio and keepCount must be given one at a time'],
    [
      'mass beside another budget',
      { attentionMass: 0.5, keepCount: 3 },
      'keepCount and attentionMass must be given one at a time',
    ],
    ['two budgets that agree', { keepRatio: 1, attentionMass: 1 }, 'must be given one at a time'],
    ['null', null, 'options must be an object; received null'],
    ['a number', 0.25, 'options must be an object; received 0.25'],
    ['text', 'keep=0.25', 'options must be an object'],
  ])('refuses %s', (_, given, message) => {
    const check = (): unknown => options.check(given as OptionsOf<typeof options.schema>);
    expect(check).toThrow(InvalidArgumentError);
    expect(check).toThrow(message);
  });

  it('says so where there are no options', () => {
    const none = defineOptions({});
    expect(none.check({})).toEqual({});
    const given: object = { keepRatio: 1 };
    expect(() => none.check(given)).toThrow('option must be absent: there are none; received "keepRatio"');
  });
});

describe('one option', () => {
  it.each<[string, unknown, string]>([
    ['order', 'random', "order must be 'original' or 'score'; received \"random\""],
    ['order', true, "order must be 'original' or 'score'; received true"],
    ['order', null, "order must be 'original' or 'score'; received null"],
    ['order', ['score'], "order must be 'original' or 'score'"],
    ['seed', -1, 'seed must be an integer from 0 to 9; received -1'],
    ['seed', 10, 'seed must be an integer from 0 to 9; received 10'],
    ['seed', 0.5, 'seed must be an integer'],
    ['seed', NaN, 'seed must be an integer'],
    ['seed', '3', 'seed must be an integer from 0 to 9; received "3"'],
    ['seed', null, 'seed must be an integer'],
    ['layer', 0, 'layer must be a whole number from 1, or below 0 to count from the end; received 0'],
    ['layer', -0, 'layer must be a whole number'],
    ['layer', 1.5, 'layer must be a whole number'],
    ['layer', NaN, 'layer must be a whole number'],
    ['layer', Infinity, 'layer must be a whole number'],
    ['layer', '2', 'layer must be a whole number'],
    ['keepRatio', 0, 'keepRatio must be a number in (0, 1], the share to keep; received 0'],
    ['keepRatio', 1.01, 'keepRatio must be a number in (0, 1]'],
    ['keepRatio', NaN, 'keepRatio must be a number in (0, 1]'],
    ['keepRatio', '0.5', 'keepRatio must be a number in (0, 1]'],
    ['keepRatio', null, 'keepRatio must be a number in (0, 1]'],
    ['keepCount', 0, 'keepCount must be a positive integer, the tokens to keep; received 0'],
    ['keepCount', 2.5, 'keepCount must be a positive integer'],
    ['keepCount', Infinity, 'keepCount must be a positive integer'],
    ['attentionMass', 80, 'attentionMass must be a number in (0, 1], the share of the attention to keep'],
    ['attentionMass', 0, 'attentionMass must be a number in (0, 1]'],
  ])('%s refuses %j', (name, value, message) => {
    const check = (): unknown => options.check({ [name]: value });
    expect(check).toThrow(InvalidArgumentError);
    expect(check).toThrow(message);
  });

  it.each([
    ['seed', 0],
    ['seed', 9],
    ['layer', 1],
    ['layer', -1],
    ['keepRatio', 1],
    ['keepRatio', 1e-9],
    ['keepCount', 1],
    ['attentionMass', 1],
  ])('%s takes %f', (name, value) => {
    expect(options.check({ [name]: value })).toMatchObject({ [name]: value });
  });

  it('a number may be a fraction, and is finite', () => {
    const weighing = defineOptions({ power: numberOption({ from: 0, default: 1 }, 'how much') });
    expect([weighing.check({}).power, weighing.check({ power: 0.5 }).power]).toEqual([1, 0.5]);
    for (const power of [-0.5, NaN, Infinity, '1' as unknown as number]) {
      expect(() => weighing.check({ power })).toThrow('power must be a number, 0 or more');
    }
    expect(weighing.schema.power.values).toBe('0 or more');
  });

  it('an integer has no highest value unless told otherwise', () => {
    const counting = defineOptions({ count: integerOption({ from: 1, default: 1 }, 'how many') });
    expect(counting.check({ count: Number.MAX_SAFE_INTEGER })).toEqual({ count: Number.MAX_SAFE_INTEGER });
    expect(() => counting.check({ count: 0 })).toThrow('count must be an integer, 1 or more; received 0');
    expect(() => counting.check({ count: 2 ** 53 })).toThrow('count must be an integer, 1 or more');
  });

  it('an integer has no default where the method has a rule of its own', () => {
    const counting = defineOptions({ count: integerOption({ from: 1, default: undefined }, 'how many') });
    expect(counting.check({})).toEqual({ count: undefined });
    expect(counting.check({ count: 2 })).toEqual({ count: 2 });
  });

  it('a share is a number in [0, 1]', () => {
    const sharing = defineOptions({ part: numberOption({ from: 0, to: 1, default: 0.5 }, 'how much') });
    expect(sharing.check({})).toEqual({ part: 0.5 });
    for (const part of [0, 0.25, 1]) expect(sharing.check({ part })).toEqual({ part });
    for (const part of [-0.1, 1.1, NaN, '0.5', null]) {
      expect(() => sharing.check({ part: part as number })).toThrow('part must be a number in [0, 1]');
    }
  });
});

describe('a list of shares', () => {
  const listed = defineOptions({
    shares: listOption(numberOption({ from: 0, to: 1, default: 1 }, 'a share'), [0.5, 0.25], 'shares'),
  });

  it('has its default, or what was given, as a list of its own', () => {
    expect(listed.check({})).toEqual({ shares: [0.5, 0.25] });
    const shares = [1, 0, 0.125];
    const checked = listed.check({ shares });
    shares[0] = 7;
    expect(checked).toEqual({ shares: [1, 0, 0.125] });
  });

  it.each<[unknown, string]>([
    [[], 'shares must be a list of at least one number; received []'],
    [0.5, 'shares must be a list of at least one number; received 0.5'],
    [[0.5, -0.1], 'shares[1] must be a number in [0, 1]; received -0.1'],
    [[1.5], 'shares[0] must be a number in [0, 1]; received 1.5'],
    [[NaN], 'shares[0] must be a number in [0, 1]'],
    [['0.5'], 'shares[0] must be a number in [0, 1]'],
  ])('refuses %j', (shares, message) => {
    const check = (): unknown => listed.check({ shares: shares as number[] });
    expect(check).toThrow(InvalidArgumentError);
    expect(check).toThrow(message);
  });
});

describe('a budget of options', () => {
  it('is the one that was given, or its default', () => {
    expect(scoreBudgetOf(options.check({}))).toEqual({ keepRatio: 0.25 });
    expect(scoreBudgetOf(options.check({ keepRatio: 0.5 }))).toEqual({ keepRatio: 0.5 });
    expect(scoreBudgetOf(options.check({ keepCount: 3 }))).toEqual({ keepCount: 3 });
    expect(scoreBudgetOf(options.check({ attentionMass: 0.8 }))).toEqual({ attentionMass: 0.8 });
  });

  it('is undefined where the method has a rule of its own', () => {
    const fixed = defineOptions(budgetOptions());
    expect(budgetOf(fixed.check({}))).toBeUndefined();
    expect(budgetOf(fixed.check({ keepCount: 3 }))).toEqual({ keepCount: 3 });
    const scored = defineOptions(scoreBudgetOptions());
    expect(scoreBudgetOf(scored.check({}))).toBeUndefined();
  });

  it('is described in the words of the method where it has some', () => {
    const { keepRatio, keepCount } = budgetOptions({ keepRatio: 0.5 }, { keepCount: 'rows of tokens' });
    expect(keepRatio.description).toContain('share of the tokens');
    expect(keepCount.description).toBe('rows of tokens');
  });
});
