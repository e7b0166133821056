import { describe, expect, it } from 'vitest';
import {
  FoveateError,
  GridRequiredError,
  InvalidArgumentError,
  InvalidPlanError,
  UnknownReducerError,
} from './errors.js';

describe('isInstance', () => {
  it('tells a class from its siblings and holds for its ancestors', () => {
    const error = new GridRequiredError('fopru-row', 7);
    expect(GridRequiredError.isInstance(error)).toBe(true);
    expect(FoveateError.isInstance(error)).toBe(true);
    expect(InvalidPlanError.isInstance(error)).toBe(false);
    expect(error).toBeInstanceOf(Error);
  });

  it('recognises an error of another copy of the package by its marker', () => {
    const foreign = Object.assign(new Error('no grid'), { [Symbol.for('@foveate/GridRequiredError')]: true });
    expect(GridRequiredError.isInstance(foreign)).toBe(true);
  });

  it('recognises a class that another package derives', () => {
    class BundleError extends FoveateError {
      static override readonly marker: symbol = Symbol.for('@foveate/BundleError');
    }
    expect(BundleError.isInstance(new BundleError('broken'))).toBe(true);
    expect(FoveateError.isInstance(new BundleError('broken'))).toBe(true);
    expect(BundleError.isInstance(new FoveateError('other'))).toBe(false);
  });

  it.each([undefined, null, 'text', {}, new Error('plain')])('is false for %s', (value) => {
    expect(FoveateError.isInstance(value)).toBe(false);
  });
});

describe('messages', () => {
  it('say what to do', () => {
    expect(new GridRequiredError('fopru-row', 144).message).toContain('put fopru-row before fopru-rank');
    expect(new UnknownReducerError('fopru', ['fopru-rank', 'random']).message).toBe(
      'No reducer is called "fopru". Known reducers: fopru-rank, random.',
    );
    expect(new InvalidArgumentError('budget.keepRatio', 2, 'a number in (0, 1]').message).toBe(
      'budget.keepRatio must be a number in (0, 1]; received 2.',
    );
  });

  it('show any value, shortly', () => {
    const circular: Record<string, unknown> = {};
    circular.self = circular;
    const shown = (value: unknown): string => new InvalidArgumentError('x', value, 'y').message;
    expect(shown(circular)).toContain('[object Object]');
    expect(shown('a'.repeat(1000)).length).toBeLessThan(120);
    expect(shown(Array.from({ length: 1000 }, () => 1)).length).toBeLessThan(120);
    expect(shown(new Float32Array(5))).toContain('Float32Array of 20 bytes');
    expect(shown(10n)).toContain('10');
    expect(shown(Symbol('s'))).toContain('Symbol(s)');
  });
});
