import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { topIndices, topIndicesAscending } from './top-indices.js';

it('puts the highest first and ties by the lower index', () => {
  expect([...topIndices([1, 3, 2, 3, 0], 3)]).toEqual([1, 3, 2]);
  expect([...topIndices(Float32Array.of(2, 2, 2, 2), 2)]).toEqual([0, 1]);
});

it('gives all where all are asked for', () => {
  expect([...topIndices([0, 1], 2)]).toEqual([1, 0]);
});

it('is what sorting everything gives', () => {
  // Longer and shorter than what is inserted one by one.
  const scores = fc.array(fc.integer({ min: -3, max: 3 }), { minLength: 1, maxLength: 100, size: 'max' });
  fc.assert(
    fc.property(scores, fc.nat(), (values, at) => {
      const count = 1 + (at % values.length);
      const sorted = values.map((value, index) => ({ value, index })).sort((a, b) => b.value - a.value); // stable
      expect([...topIndices(values, count)]).toEqual(sorted.slice(0, count).map(({ index }) => index));
      expect([...topIndicesAscending(values, count)]).toEqual(
        values.flatMap((_, index) =>
          sorted.findIndex((entry) => entry.index === index) < count ? [index] : [],
        ),
      );
    }),
  );
});
