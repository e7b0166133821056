import { describe, expect, test } from 'vitest';
import { FIXTURES, fixture, pixels, run } from '../fixtures/run.js';
import { addSignals, findVisionEncoder, OnnxArgumentError, OnnxStructureError } from './index.js';
import { readModel } from './files.js';
import { makeModel, makeNode } from '../fixtures/make.js';

describe('structure', () => {
  test.each(FIXTURES)('$name', ({ name, form, layers, featuresLayer, prefixTokens }) => {
    const found = findVisionEncoder(readModel(fixture(`${name}.onnx`)), { output: 'image_features' });
    expect(found).toEqual({
      input: 'pixel_values',
      output: 'image_features',
      layers: Array.from({ length: layers }, () => ({ form, heads: 4 })),
      featuresLayer,
      prefixTokens,
      classToken: prefixTokens > 0 ? 'dropped' : 'absent',
      features: expect.any(String) as string,
      projector: { perToken: true },
    });
  });

  test('weights in 8 bits: each token of the projector depends on the range of all', async () => {
    const model = readModel(fixture('clip-int8.onnx'));
    const encoder = findVisionEncoder(model);
    expect(encoder).toMatchObject({ featuresLayer: 1, prefixTokens: 1, projector: { perToken: false } });
    const patched = addSignals(model, encoder, [{ name: 'attentionReceived' }]).model;
    const [before, after] = [await run(model, pixels8()), await run(patched, pixels8())];
    expect(after.image_features.data).toEqual(before.image_features.data);
  });

  test("LLaVA's own method: what splits and stacks the images is no operator of a token", () => {
    const encoder = findVisionEncoder(readModel(fixture('clip-get-image-features-17.onnx')));
    expect(encoder).toMatchObject({ featuresLayer: 1, prefixTokens: 1, projector: { perToken: false } });
  });

  test('a class token among the features: found, and refused as soon as a signal is wanted', () => {
    const model = readModel(fixture('clip-class-token-kept-17.onnx'));
    const encoder = findVisionEncoder(model);
    expect(encoder).toMatchObject({ prefixTokens: 0, classToken: 'kept' });
    const add = (): unknown => addSignals(model, encoder, [{ name: 'attentionReceived' }]);
    expect(add).toThrow(OnnxStructureError);
    expect(add).toThrow(/class token among them.*vision_feature_select_strategy "default"/);
  });
});

describe('what cannot be reduced is refused', () => {
  test.each([
    ['siglip-resampler-17', /cross-attention.*resampler/],
    ['siglip-several-layers-17', /residual connection.*several layers/],
  ])('%s', (name, message) => {
    const find = (): unknown => findVisionEncoder(readModel(fixture(`${name}.onnx`)));
    expect(find).toThrow(OnnxStructureError);
    expect(find).toThrow(message);
  });

  test('a graph without attention: the error says what there is', () => {
    const conv = makeNode('Conv', ['pixels', 'w'], ['y']);
    const model = makeModel([conv], { inputs: ['pixels'], outputs: ['y'], weights: { w: [1] } });
    expect(() => findVisionEncoder(model)).toThrow(/none among its 1 nodes \(1 Conv\).*eager attention/);
  });

  test('two encoders side by side', () => {
    const nodes = ['a', 'b'].flatMap((side) => [
      makeNode('MatMul', ['pixels', 'w'], [`${side}q`]),
      makeNode('MatMul', [`${side}q`, 'pixels'], [`${side}s`]),
      makeNode('Softmax', [`${side}s`], [`${side}p`]),
      makeNode('MatMul', [`${side}p`, 'pixels'], [`${side}o`]),
    ]);
    const model = makeModel([...nodes, makeNode('Concat', ['ao', 'bo'], ['y'])], {
      inputs: ['pixels'],
      outputs: ['y'],
      weights: { w: [1] },
    });
    expect(() => findVisionEncoder(model)).toThrow(/several attentions side by side/);
  });

  test('several inputs of floats', () => {
    const model = makeModel([makeNode('Add', ['a', 'b'], ['y'])], { inputs: ['a', 'b'], outputs: ['y'] });
    expect(() => findVisionEncoder(model)).toThrow(OnnxStructureError);
    expect(() => findVisionEncoder(model)).toThrow(/2 inputs \(a, b\)/);
  });

  test('an output that is not there, or not named among several', () => {
    const one = readModel(fixture('clip-eager-17.onnx'));
    expect(() => findVisionEncoder(one, { output: 'logits' })).toThrow(OnnxArgumentError);
    expect(() => findVisionEncoder(one, { output: 'logits' })).toThrow(/image_features; received "logits"/);
    const two = makeModel([makeNode('Add', ['x', 'x'], ['y'])], { inputs: ['x'], outputs: ['x', 'y'] });
    expect(() => findVisionEncoder(two)).toThrow(/one of the outputs.*x, y/);
  });
});

function pixels8(): Record<string, ReturnType<typeof pixels>> {
  return { pixel_values: pixels() };
}
