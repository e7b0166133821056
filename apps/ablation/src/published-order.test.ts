import type { SummaryRow } from '@foveate/eval';
import { describe, expect, it } from 'vitest';
import { restoreTable1 } from './paper-tables.js';
import { sharedOrders } from './published-order.js';

/** A row of 256 tokens, as far as orders are about it. */
function row(reducer: string, equivalentTokens: number, accuracy: number): SummaryRow {
  const steps =
    reducer === 'none' ? [] : reducer.split('+').map((name) => ({ reducer: name, keptTokens: 1 }));
  return { reducer, equivalentTokens, accuracy, steps } as unknown as SummaryRow;
}

const none = row('none', 256, 0.9);

describe('sharedOrders', () => {
  it('pairs methods that read about the budget with the averages that are printed there', () => {
    const rows = [
      none,
      row('fastv:layer=1:keep=0.2', 85.2, 0.7),
      row('visionzip:keep=0.3334', 85, 0.8),
      row('fopru-rank:keep=0.3334', 85, 0.99), // in no table
      row('vispruner:keep=0.3334', 80, 0.8),
      row('divprune:keep=0.3334+fastv:keep=0.5', 85, 0.1), // two steps
      row('divprune:keep=0.3334', 85, 0.75),
      row('divprune:keep=0.2223', 56, 0.6),
      row('tome:keep=0.3334', 50, 0.5), // far from 85.3, near to no budget but 128
      row('sparsevlm:keep=0.1112', 28, 0.5),
    ];
    const [{ tokens, methods, correlation }, ...others] = sharedOrders(rows, restoreTable1);
    expect(others).toEqual([]); // two methods at 128 of 576, one at 64
    expect(tokens).toBe(192);
    expect(methods.map(({ row: { reducer }, published }) => [reducer, published])).toEqual([
      ['visionzip:keep=0.3334', 96.8],
      ['vispruner:keep=0.3334', 97.5],
      ['divprune:keep=0.3334', 96.9],
      ['fastv:layer=1:keep=0.2', 96],
    ]);
    // Ranks 3.5, 3.5, 2, 1 and 2, 4, 3, 1, centred 1, 1, -.5, -1.5 and -.5, 1.5, .5, -1.5:
    // -.5 + 1.5 - .25 + 2.25 = 3 over sqrt(4.5 * 5)
    expect(correlation?.rho).toBeCloseTo(3 / Math.sqrt(22.5), 12);
    expect(correlation?.n).toBe(4);
  });

  it('has nothing to pair without the row that keeps every token, nor of three methods', () => {
    const rows = ['visionzip', 'vispruner', 'fastv', 'tome'].map((name) =>
      row(`${name}:keep=0.3334`, 85, 0.5),
    );
    expect(sharedOrders(rows, restoreTable1)).toEqual([]);
    expect(sharedOrders([none, ...rows.slice(1)], restoreTable1)).toEqual([]);
    expect(sharedOrders([none, ...rows], restoreTable1)).toMatchObject([{ tokens: 192, correlation: null }]);
  });
});
