import type { SummaryRow } from '@foveate/eval';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { paretoFront, seriesOf } from './series.js';

const row = (reducer: string, ttftMs = 0, accuracy = 0): SummaryRow =>
  ({ reducer, ttftMs, accuracy }) as SummaryRow;
const cost = ({ ttftMs }: SummaryRow): number => ttftMs;

describe('seriesOf', () => {
  it('puts together what differs in its budgets alone', () => {
    const specs = [
      'none',
      'fopru-rank:keep=0.5',
      'fopru-row:keep=0.5+fastv:keep=0.5:layer=2',
      'fopru-rank:count=3',
      'fopru-rank:keep=0.5:significance=given',
      'fopru-row:keep=0.25+fastv:layer=2:keep=0.1',
      'fopru-rank:mass=0.8',
    ];
    const found = seriesOf(specs.map((spec) => row(spec)));
    expect(
      found.map(({ method, rows }) => [method, rows.map(({ reducer }) => specs.indexOf(reducer))]),
    ).toEqual([
      ['none', [0]],
      ['fopru-rank', [1, 3, 6]],
      ['fopru-row+fastv:layer=2', [2, 5]],
      ['fopru-rank:significance=given', [4]],
    ]);
  });
});

describe('paretoFront', () => {
  it('has what nothing beats, by cost', () => {
    const rows = [
      row('a', 5, 0.9),
      row('b', 1, 0.5),
      row('c', 3, 0.5),
      row('d', 3, 0.8),
      row('e', 6, 0.9),
      row('f', 1, 0.5),
    ];
    expect(paretoFront(rows, cost).map(({ reducer }) => reducer)).toEqual(['b', 'f', 'd', 'a']);
  });

  it('ascends in both, and leaves out only what a row on it beats', () => {
    const place = fc.tuple(fc.integer({ min: 0, max: 9 }), fc.integer({ min: 0, max: 9 }));
    fc.assert(
      fc.property(fc.array(place, { minLength: 1 }), (places) => {
        const rows = places.map(([x, y], index) => row(String(index), x, y));
        const front = paretoFront(rows, cost);
        for (const [index, one] of front.entries()) {
          if (index === 0) continue;
          const before = front[index - 1];
          const same = one.ttftMs === before.ttftMs && one.accuracy === before.accuracy;
          expect(same || (one.ttftMs > before.ttftMs && one.accuracy > before.accuracy)).toBe(true);
        }
        for (const other of rows.filter((candidate) => !front.includes(candidate)))
          expect(
            front.some(({ ttftMs, accuracy }) => ttftMs <= other.ttftMs && accuracy >= other.accuracy),
          ).toBe(true);
      }),
    );
  });
});
