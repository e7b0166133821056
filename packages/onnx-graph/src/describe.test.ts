import { expect, test } from 'vitest';
import { makeModel, makeNode } from '../fixtures/make.js';
import { fixture } from '../fixtures/run.js';
import { describeModel } from './index.js';
import { readModel } from './files.js';

test('a real model', () => {
  expect(describeModel(readModel(fixture('clip-ms-attention.onnx')))).toMatchObject({
    inputs: [{ name: 'pixel_values', type: 'float32', shape: ['batch', 3, 16, 16] }],
    outputs: [{ name: 'image_features', type: 'float32', shape: ['batch', expect.anything(), 12] }],
    opsets: { 'ai.onnx': 17, 'com.microsoft': 1 },
    operators: { 'com.microsoft.Attention': 2, 'com.microsoft.SkipLayerNormalization': 3 },
  });
});

test('one made by hand', () => {
  const nodes = [
    makeNode('Add', ['x', 'w'], ['a']),
    makeNode('Relu', ['a'], ['b']),
    makeNode('Relu', ['b'], ['y']),
  ];
  const model = makeModel(nodes, { inputs: ['x', 'w'], outputs: ['y'], weights: { w: [1, 2, 3] } });
  const matrix = { type: 'float32', shape: ['rows', 'columns'] };
  expect(describeModel(model)).toEqual({
    inputs: [{ name: 'x', ...matrix }], // w has a value: nobody has to feed it
    outputs: [{ name: 'y', ...matrix }],
    opsets: { 'ai.onnx': 17 },
    operators: { Relu: 2, Add: 1 },
    weightBytes: 12,
    weightFiles: [],
    producer: '',
  });
});

test('the files that weights lie in', () => {
  const { weightFiles } = describeModel(readModel(fixture('clip-external.onnx')));
  expect(weightFiles).toEqual(['clip-external.onnx_data']);
});
