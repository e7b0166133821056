import { expect, test } from 'vitest';
import { makeModel, makeNode } from '../fixtures/make.js';
import { GraphIndex } from './graph-index.js';
import { isPerToken } from './per-token.js';

const weights = { scalar: [2], channels: [1, 2, 3] };
const node = makeNode;

test.each([
  ['a matrix applied to each token', [node('MatMul', ['x', 'channels'], ['y'])], true],
  ['a bias', [node('Add', ['channels', 'x'], ['y'])], true],
  ['a gate', [node('Sigmoid', ['x'], ['g']), node('Mul', ['g', 'x'], ['y'])], true],
  ['normalisation', [node('LayerNormalization', ['x', 'channels'], ['y'])], true],
  ['tokens weighting tokens', [node('MatMul', ['x', 'x'], ['y'])], false],
  ['a matrix from the left', [node('MatMul', ['channels', 'x'], ['y'])], false],
  ['turning the axes', [node('Transpose', ['x'], ['y'])], false],
  ['a new shape', [node('Reshape', ['x', 'scalar'], ['y'])], false],
  ['neighbours', [node('AveragePool', ['x'], ['y'])], false],
  ['a softmax', [node('Softmax', ['x'], ['y'])], false],
  ['an unknown operator', [node('Mystery', ['x'], ['y'])], false],
])('%s: %s', (_, nodes, perToken) => {
  const model = makeModel(nodes, { inputs: ['x'], outputs: ['y'], weights });
  expect(isPerToken(new GraphIndex(model), 'x', 'y')).toBe(perToken);
});
