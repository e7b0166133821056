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
} from '../../fixtures/run.js';
import {
  addSignals,
  findVisionEncoder,
  OnnxArgumentError,
  OnnxStructureError,
  type SignalRequest,
} from '../index.js';
import { readModel } from '../files.js';

/** Every signal that an encoder can give, from every layer it has. */
function everything(layers: number, hasClass: boolean): (SignalRequest & { layer?: number })[] {
  const signals = ['attentionGiven', 'attentionReceived', 'keys'];
  if (hasClass) signals.push('classAttention');
  const perLayer = Array.from({ length: layers }, (_, layer) => signals.map((name) => ({ name, layer })));
  return [...perLayer.flat(), { name: 'attentionShare' }];
}

describe.each(FIXTURES)('$name', ({ name, model: values, layers, patches, tolerance }) => {
  const model = readModel(fixture(`${name}.onnx`));
  const encoder = findVisionEncoder(model, { output: 'image_features' });
  const requests = everything(layers, encoder.prefixTokens > 0);
  const { model: patched, outputs } = addSignals(model, encoder, requests);
  const expected = expectedValues(values);

  test('signals are what PyTorch computes from its own attention maps', async () => {
    const out = await run(patched, { [encoder.input]: pixels() });
    requests.forEach(({ name: signal, layer }, i) => {
      if (typeof layer !== 'number') return;
      const actual = out[outputs[i]];
      const allowed = signal === 'keys' ? tolerance.features : tolerance.attention;
      expect(difference(actual, expected.layers[layer][signal]), `${signal} of layer ${layer}`).toBeLessThan(
        allowed,
      );
      expect(actual.dims).toEqual(signal === 'keys' ? [BATCH, patches, CHANNELS] : [BATCH, patches]);
    });
    const share = out[outputs.at(-1) ?? ''];
    const shares = Array.from({ length: BATCH }, (_, image) =>
      expected.layers.slice(0, layers).map(({ attentionShare }) => attentionShare[image]),
    );
    expect(share.dims).toEqual([BATCH, layers]);
    expect(difference(share, shares.flat())).toBeLessThan(10 * tolerance.attention);
  });

  test('the map has the attention that the vectors are means of', async () => {
    const layer = encoder.featuresLayer;
    const added = addSignals(model, encoder, [{ name: 'attentionMap' }]);
    const map = (await run(added.model, { [encoder.input]: pixels() }))[added.outputs[0]]; // [B, H, S, S]
    const first = encoder.prefixTokens > 0 ? 1 : 0;
    const [, heads, side] = map.dims;
    expect(map.dims).toEqual([BATCH, heads, patches + first, patches + first]);
    const given = new Float32Array(BATCH * patches);
    const received = new Float32Array(BATCH * patches);
    (map.data as Float32Array).forEach((value, i) => {
      const [image, query, key] = [
        Math.floor(i / (heads * side * side)),
        Math.floor(i / side) % side,
        i % side,
      ];
      if (query < first || key < first) return;
      given[image * patches + query - first] += value / heads / patches;
      received[image * patches + key - first] += value / heads / patches;
    });
    const { attentionGiven, attentionReceived } = expected.layers[layer];
    expect(difference({ data: given }, attentionGiven)).toBeLessThan(2 * tolerance.attention);
    expect(difference({ data: received }, attentionReceived)).toBeLessThan(2 * tolerance.attention);
  });

  test('the other outputs stay as they are, to the bit', async () => {
    const before = await run(model, { [encoder.input]: pixels() });
    const after = await run(patched, { [encoder.input]: pixels() });
    for (const { name: output } of model.graph.output)
      expect(after[output].data).toEqual(before[output].data);
  });
});

describe('requests', () => {
  const clip = readModel(fixture('clip-eager-17.onnx'));
  const siglip = readModel(fixture('siglip-eager-14.onnx'));

  test('none leaves the model alone', () => {
    expect(addSignals(clip, findVisionEncoder(clip), [])).toEqual({ model: clip, outputs: [] });
  });

  test('equal ones share an output, whichever way they name the layer', () => {
    const { model, outputs } = addSignals(clip, findVisionEncoder(clip), [
      { name: 'keys' },
      { name: 'keys', layer: 'features' },
      { name: 'keys', layer: 1 },
      { name: 'keys', layer: 0 },
    ]);
    expect(outputs[1]).toBe(outputs[0]);
    expect(outputs[2]).toBe(outputs[0]);
    expect(outputs[3]).not.toBe(outputs[0]);
    expect(model.graph.output).toHaveLength(3);
  });

  test('signals can be added to a model that has some', async () => {
    const first = addSignals(clip, findVisionEncoder(clip), [{ name: 'attentionGiven' }]);
    const encoder = findVisionEncoder(first.model, { output: 'image_features' });
    const second = addSignals(first.model, encoder, [{ name: 'attentionGiven' }]);
    const out = await run(second.model, { [encoder.input]: pixels() });
    expect(second.outputs[0]).not.toBe(first.outputs[0]);
    expect(out[second.outputs[0]].data).toEqual(out[first.outputs[0]].data);
  });

  test('the original is not changed', () => {
    const before = clip.graph.output.length + clip.graph.node.length;
    addSignals(clip, findVisionEncoder(clip), everything(2, true));
    expect(clip.graph.output.length + clip.graph.node.length).toBe(before);
  });

  test.each([
    [
      'a layer that is not in the graph',
      { name: 'keys', layer: 2 },
      /requests\[0\]\.layer .*2 layers.*received 2/,
    ],
    ['a negative layer', { name: 'keys', layer: -1 }, /received -1/],
    ['half a layer', { name: 'keys', layer: 0.5 }, /received 0.5/],
    ['a layer of the share', { name: 'attentionShare', layer: 1 }, /covers all layers/],
    ['an unknown signal', { name: 'promptAttention' }, /one of attentionGiven.*received promptAttention/],
  ])('%s is refused', (_, request, message) => {
    const add = (): unknown => addSignals(clip, findVisionEncoder(clip), [request]);
    expect(add).toThrow(OnnxArgumentError);
    expect(add).toThrow(message);
  });

  test('class attention needs a class token', () => {
    const add = (): unknown => addSignals(siglip, findVisionEncoder(siglip), [{ name: 'classAttention' }]);
    expect(add).toThrow(OnnxStructureError);
    expect(add).toThrow(/class token.*without one.*attentionReceived/);
  });

  test('an encoder found in another model is refused', () => {
    const other = readModel(fixture('siglip-normalized-17.onnx'));
    const add = (): unknown => addSignals(clip, findVisionEncoder(other), [{ name: 'keys' }]);
    expect(add).toThrow(OnnxArgumentError);
  });
});
