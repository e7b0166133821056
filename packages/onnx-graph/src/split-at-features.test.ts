import { Tensor } from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import {
  BATCH,
  CHANNELS,
  FIXTURES,
  difference,
  expectedValues,
  fixture,
  pixels,
  run,
} from '../fixtures/run.js';
import { addSignals, findVisionEncoder, OnnxStructureError, splitAtFeatures } from './index.js';
import { readModel } from './files.js';

describe.each(FIXTURES)('$name', ({ name, model: values, patches, tolerance }) => {
  const model = readModel(fixture(`${name}.onnx`));
  const encoder = findVisionEncoder(model, { output: 'image_features' });
  const { features, ...parts } = splitAtFeatures(model, encoder);
  const expected = expectedValues(values);

  test('the first part puts out what enters the projector in PyTorch', async () => {
    const out = await run(parts.encoder, { [encoder.input]: pixels() });
    expect(out[features].dims).toEqual([BATCH, patches, CHANNELS]);
    expect(difference(out[features], expected.features)).toBeLessThan(tolerance.features);
    expect(out).not.toHaveProperty('image_features');
  });

  test('both parts one after the other give what the whole gives', async () => {
    const whole = await run(model, { [encoder.input]: pixels() });
    const out = await run(parts.encoder, { [encoder.input]: pixels() });
    const projected = await run(parts.projector, { [features]: out[features] });
    expect(difference(projected.image_features, expected.imageFeatures)).toBeLessThan(tolerance.features);
    // A cut through half precision rounds what a session keeps in float32 from there on.
    const rounding = name.endsWith('fp16') ? tolerance.features : 0;
    const { data } = whole.image_features as { data: Float32Array };
    expect(difference(projected.image_features, data)).toBeLessThanOrEqual(rounding);
  });

  test('the projector takes any number of tokens', async () => {
    const some = new Float32Array(expected.features.slice(CHANNELS, 4 * CHANNELS)); // tokens 1, 2, 3 of the first image
    const input = new Tensor('float32', some, [1, 3, CHANNELS]);
    const { image_features: projected } = await run(parts.projector, { [features]: input });
    const channels = expected.imageFeatures.length / BATCH / patches;
    expect(projected.dims).toEqual([1, 3, channels]);
    const same = expected.imageFeatures.slice(channels, 4 * channels);
    expect(difference(projected, same)).toBeLessThan(tolerance.features);
  });
});

test('signals stay with the first part', async () => {
  const model = readModel(fixture('clip-eager-17.onnx'));
  const encoder = findVisionEncoder(model);
  const { model: patched, outputs } = addSignals(model, encoder, [{ name: 'attentionReceived' }]);
  const parts = splitAtFeatures(patched, encoder);
  const out = await run(parts.encoder, { [encoder.input]: pixels() });
  expect(Object.keys(out)).toEqual([outputs[0], parts.features]);
  const { attentionReceived } = expectedValues('clip').layers[1];
  expect(difference(out[outputs[0]], attentionReceived)).toBeLessThan(1e-6);
  expect(parts.projector.graph.initializer.length).toBeLessThan(6);
});

test('an encoder without a projector has no place to cut', () => {
  const model = readModel(fixture('clip-eager-17.onnx'));
  const { encoder: half, features } = splitAtFeatures(model, findVisionEncoder(model));
  const encoder = findVisionEncoder(half, { output: features });
  expect(encoder.prefixTokens).toBe(1);
  expect(() => splitAtFeatures(model, { ...encoder, output: 'elsewhere' })).toThrow(OnnxStructureError);
});
