import { FoveateError, InvalidArgumentError, UnknownReducerError } from '@foveate/core';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { registry } from './registry.js';
import { createReducers, expandSpecs, formatSpec, parseSpec, SpecError, type Step } from './spec.js';

const word = fc.stringMatching(/^[a-z0-9-]{1,8}$/);
const value = fc.stringMatching(/^[^\s:+,=]{1,8}$/);
const step: fc.Arbitrary<Step> = fc.record({
  name: word,
  options: fc
    .uniqueArray(fc.tuple(word, value), { selector: ([name]) => name, maxLength: 4 })
    .map(Object.fromEntries),
});

describe('parseSpec', () => {
  it('reads steps and options in their order', () => {
    expect(parseSpec('fopru-rank:keep=0.5:significance=received+fastv:layer=2:keep=0.5')).toEqual([
      { name: 'fopru-rank', options: { keep: '0.5', significance: 'received' } },
      { name: 'fastv', options: { layer: '2', keep: '0.5' } },
    ]);
    expect(parseSpec('none')).toEqual([{ name: 'none', options: {} }]);
  });

  it('reads what formatSpec writes', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 3 }), (steps) => {
        expect(parseSpec(formatSpec(steps))).toEqual(steps);
      }),
    );
  });

  it('either reads a text as it stands or refuses it with a SpecError', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.stringMatching(/^[a-z+:=,. -]{0,12}$/)), (text) => {
        try {
          expect(parseSpec(text).length).toBe(text.split('+').length);
        } catch (error) {
          expect(SpecError.isInstance(error)).toBe(true);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it.each([
    ['', '"" is no name'],
    ['fopru-rank+', '"" is no name'],
    ['Fopru', '"Fopru" is no name'],
    ['fopru rank', 'is no name'],
    ['fopru-rank:', '"" is no option=value'],
    ['fopru-rank:keep', '"keep" is no option=value'],
    ['fopru-rank:keep=', '"keep=" is no option=value'],
    ['fopru-rank:keep=a=b', 'is no option=value'],
    ['fopru-rank:__proto__=1', 'is no option=value'],
    ['fopru-rank:keep=0.5:keep=0.25', 'keep is there twice'],
  ])('refuses %j', (spec, message) => {
    expect(() => parseSpec(spec)).toThrow(SpecError);
    expect(() => parseSpec(spec)).toThrow(message);
  });
});

describe('createReducers', () => {
  it('makes a reducer of each step but none', () => {
    const names = (spec: string): string[] => createReducers(registry, spec).map(({ name }) => name);
    expect(names('none')).toEqual([]);
    expect(names('fopru-row:keep=0.5+none+pooling:mode=max')).toEqual(['fopru-row', 'pooling']);
  });

  it.each([
    ['fopru', UnknownReducerError, 'Known reducers: fopru-rank, '],
    ['constructor', UnknownReducerError, 'Known reducers'],
    ['none:keep=0.5', SpecError, 'none takes no options'],
    ['pooling:keep=0.5', InvalidArgumentError, 'window, mode'],
    ['uniform:keep=1.5', InvalidArgumentError, 'keep must be'],
    ['uniform:keep=NaN', InvalidArgumentError, 'a number'],
    ['uniform:count=0', InvalidArgumentError, 'count must be'],
    ['uniform:keep=0.5:count=3', InvalidArgumentError, 'keep and count'],
    ['fopru-rank:significance=high', InvalidArgumentError, "'variance' or 'low-variance'"],
    ['fopru-rank:order=none', InvalidArgumentError, "'original' or 'score'"],
    ['random:seed=-1', InvalidArgumentError, 'seed'],
    ['prumerge:mass=0.5', InvalidArgumentError, 'keep, count, layer, preset'],
    ['prumerge:layer=3', InvalidArgumentError, "'features' or 'last'"],
    ['fastv:layer=0', InvalidArgumentError, 'layer'],
    ['fastv:rows=all', InvalidArgumentError, "'last' or 'mean'"],
  ])('refuses %j', (spec, type, message) => {
    expect(() => createReducers(registry, spec)).toThrow(type);
    expect(() => createReducers(registry, spec)).toThrow(message);
  });
});

describe('expandSpecs', () => {
  const expand = (list: string, keep = '0.5,0.25'): string[] =>
    expandSpecs(registry, list, keep).map(({ reducer }) => reducer);

  it('makes a row of each ratio for a single step that takes a budget and states none', () => {
    expect(expand('fastv:layer=2')).toEqual(['fastv:keep=0.5:layer=2', 'fastv:keep=0.25:layer=2']);
    expect(expand('none, fopru-rank:significance=given ,pooling')).toEqual([
      'none',
      'fopru-rank:keep=0.5:significance=given',
      'fopru-rank:keep=0.25:significance=given',
      'pooling',
    ]);
  });

  it('leaves every other SPEC as it stands', () => {
    const list =
      'uniform:keep=0.1,uniform:count=9,fopru-rank:mass=0.8,fopru-row+fopru-rank,none+fopru-rank,pooling:mode=max,prumerge,prumerge-plus:layer=last';
    expect(expand(list)).toEqual(list.split(','));
  });

  it('gives the 22 rows of the default comparison', () => {
    const rows = expand('none,fopru-rank,fopru-row,uniform,random,pooling', '0.75,0.5,0.25,0.11,0.06');
    expect(rows).toHaveLength(22);
    expect(rows[0]).toBe('none');
    expect(rows[5]).toBe('fopru-rank:keep=0.06');
    expect(rows[21]).toBe('pooling');
  });

  it.each([
    ['none,,pooling', '0.5', 'empty item'],
    ['', '0.5', 'empty item'],
    ['none', '0.5,', 'empty item'],
    ['none', '0', 'ratios in (0, 1]'],
    ['none', '50', 'ratios in (0, 1]'],
    ['none', '25%', 'ratios in (0, 1]'],
    ['none', 'Infinity', 'ratios in (0, 1]'],
    ['none,none', '0.5', 'none would be in the table twice'],
    ['uniform,uniform:keep=0.5', '0.5', 'uniform:keep=0.5 would be in the table twice'],
    ['nothing', '0.5', 'Known reducers'],
  ])('refuses %j with --keep %j', (list, keep, message) => {
    expect(() => expand(list, keep)).toThrow(FoveateError);
    expect(() => expand(list, keep)).toThrow(message);
  });
});
