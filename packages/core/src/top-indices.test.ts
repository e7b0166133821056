import { expect, it } from 'vitest';
import { topIndices } from './top-indices.js';

it('puts the highest first and ties by the lower index', () => {
  expect([...topIndices([1, 3, 2, 3, 0], 3)]).toEqual([1, 3, 2]);
  expect([...topIndices(Float32Array.of(2, 2, 2, 2), 2)]).toEqual([0, 1]);
});

it('gives all where all are asked for', () => {
  expect([...topIndices([0, 1], 2)]).toEqual([1, 0]);
});
