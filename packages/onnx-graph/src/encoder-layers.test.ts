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
import { readModel } from './files.js';
import { copyGraph } from './graph-editor.js';
import {
  addSignals,
  findVisionEncoder,
  OnnxArgumentError,
  OnnxStructureError,
  pruneEncoder,
  splitAtFeatures,
  splitEncoder,
  type OnnxModel,
} from './index.js';

const OUTPUT = { output: 'image_features' };
/** One image: the batch of what is pruned is 1. */
const image = (): Tensor => {
  const { data, dims } = pixels();
  return new Tensor('float32', (data as Float32Array).slice(0, data.length / BATCH), [1, ...dims.slice(1)]);
};
const integers = (values: readonly number[]): Tensor =>
  new Tensor('int64', BigInt64Array.from(values, BigInt), [values.length]);
const numbers = (tensor: Tensor): number[] => Array.from(tensor.data as BigInt64Array, Number);

/** The patches with the highest scores, ascending. */
function best(scores: ArrayLike<number>, count: number): number[] {
  const order = Array.from(scores, (_, i) => i).sort((a, b) => scores[b] - scores[a] || a - b);
  return order.slice(0, count).sort((a, b) => a - b);
}

/** The hidden state [1, S, D] with the prefix tokens and the patches named. */
function take(hidden: Tensor, prefixTokens: number, patches: readonly number[]): Tensor {
  const width = hidden.dims[2];
  const rows = [
    ...Array.from({ length: prefixTokens }, (_, i) => i),
    ...patches.map((p) => p + prefixTokens),
  ];
  const data = rows.flatMap((row) => [
    ...(hidden.data as Float32Array).subarray(row * width, (row + 1) * width),
  ]);
  return new Tensor('float32', data, [1, rows.length, width]);
}

const cases = FIXTURES.flatMap((one) =>
  Array.from({ length: one.featuresLayer }, (_, i) => ({ ...one, layer: i + 1 })),
);

describe.each(cases)(
  '$name before layer $layer',
  ({ name, model: values, layer, patches, prefixTokens, tolerance }) => {
    const model = readModel(fixture(`${name}.onnx`));
    const score =
      prefixTokens > 0 ? { name: 'classAttention', heads: 'mean' } : { name: 'attentionReceived' };
    const close = 8 * tolerance.features;

    test('in two parts with everything kept, it is the whole', async () => {
      const whole = await run(model, { [findVisionEncoder(model, OUTPUT).input]: image() });
      const { lower, upper, hidden } = splitEncoder(model, OUTPUT, layer);
      const below = await run(lower, { [findVisionEncoder(model, OUTPUT).input]: image() });
      const above = await run(upper, { [hidden]: below[hidden] });
      expect(difference(above.image_features, whole.image_features.data as Float32Array)).toBeLessThan(close);
      expect(findVisionEncoder(upper, OUTPUT)).toMatchObject({
        input: hidden,
        prefixTokens,
        featuresLayer: findVisionEncoder(model, OUTPUT).featuresLayer - layer,
      });
    });

    test('in one graph or between two parts: the same patches, the same features, the same later signals', async () => {
      const { input } = findVisionEncoder(model, OUTPUT);
      const keep = 5;
      const { model: pruned, prunings } = pruneEncoder(model, OUTPUT, [{ layer, score }]);
      const [names] = prunings;
      const after = findVisionEncoder(pruned, OUTPUT);
      expect(after.layers).toEqual(findVisionEncoder(model, OUTPUT).layers);
      const given = addSignals(pruned, after, [{ name: 'attentionReceived' }, { name: 'keys' }]);
      const cut = splitAtFeatures(given.model, findVisionEncoder(given.model, OUTPUT));
      const one = await run(cut.encoder, { [input]: image(), [names.keepCount]: integers([keep]) });
      const projected = await run(cut.projector, { [cut.features]: one[cut.features] });

      const scored = addSignals(model, findVisionEncoder(model, OUTPUT), [{ ...score, layer: layer - 1 }]);
      const { lower, upper, hidden } = splitEncoder(scored.model, OUTPUT, layer);
      const below = await run(lower, { [input]: image() });
      const scores = below[scored.outputs[0]].data as Float32Array;
      const kept = best(scores, keep);
      const above = addSignals(upper, findVisionEncoder(upper, OUTPUT), [
        { name: 'attentionReceived' },
        { name: 'keys' },
      ]);
      const two = await run(above.model, { [hidden]: take(below[hidden], prefixTokens, kept) });

      const expected = expectedValues(values).layers[layer - 1][
        score.name === 'classAttention' ? 'classAttentionMean' : score.name
      ] as number[] | undefined;
      if (expected)
        expect(difference(one[names.scores], expected.slice(0, patches))).toBeLessThan(tolerance.attention);
      expect(difference(one[names.scores], scores)).toBeLessThan(tolerance.attention);
      expect(numbers(one[names.keptPatches])).toEqual(kept);
      expect(one[cut.features].dims).toEqual([1, keep, CHANNELS]);
      expect(difference(projected.image_features, two.image_features.data as Float32Array)).toBeLessThan(
        close,
      );
      for (const [i, output] of given.outputs.entries())
        expect(difference(one[output], two[above.outputs[i]].data as Float32Array)).toBeLessThan(close);
    });

    test('with everything kept it is the original', async () => {
      const { input } = findVisionEncoder(model, OUTPUT);
      const { model: pruned, prunings } = pruneEncoder(model, OUTPUT, [{ layer, score }]);
      const feeds = { [input]: image(), [prunings[0].keepCount]: integers([1000]) };
      const whole = await run(model, { [input]: image() });
      const all = await run(pruned, feeds);
      expect(difference(all.image_features, whole.image_features.data as Float32Array)).toBeLessThan(close);
      expect(numbers(all[prunings[0].keptPatches])).toEqual(Array.from({ length: patches }, (_, i) => i));
    });
  },
);

test.each(['clip-eager-dynamo-18', 'siglip-sdpa-dynamo-23', 'clip-sdpa-dynamo-23'])(
  'a number of tokens that is written down is found where no shapes are stated: %s',
  async (name) => {
    const model = readModel(fixture(`${name}.onnx`));
    const bare = { ...model, graph: copyGraph(model.graph, { valueInfo: [] }) };
    const { prefixTokens, input } = findVisionEncoder(bare, OUTPUT);
    const { lower, upper, hidden } = splitEncoder(bare, OUTPUT, 1);
    const below = await run(lower, { [input]: image() });
    const above = await run(upper, { [hidden]: take(below[hidden], prefixTokens, [2, 3, 5]) });
    expect(above.image_features.dims[1]).toBe(3);
  },
);

describe('several layers', () => {
  const model = readModel(fixture('siglip-normalized-17.onnx'));
  const score = { name: 'attentionReceived' };

  test('each chooses among what the one before left', async () => {
    const { input } = findVisionEncoder(model, OUTPUT);
    const { model: pruned, prunings } = pruneEncoder(model, OUTPUT, [
      { layer: 1, score },
      { layer: 2, score },
    ]);
    const counts = [9, 4];
    const one = await run(pruned, {
      [input]: image(),
      ...Object.fromEntries(prunings.map(({ keepCount }, i) => [keepCount, integers([counts[i]])])),
    });
    let rest: OnnxModel = model;
    let feeds: Record<string, Tensor> = { [input]: image() };
    for (const [i, count] of counts.entries()) {
      const scored = addSignals(rest, findVisionEncoder(rest, OUTPUT), [{ ...score, layer: 0 }]);
      const { lower, upper, hidden } = splitEncoder(scored.model, OUTPUT, 1);
      const below = await run(lower, feeds);
      const kept = best(below[scored.outputs[0]].data as Float32Array, count);
      expect(numbers(one[prunings[i].keptPatches])).toEqual(kept);
      rest = upper;
      feeds = { [hidden]: take(below[hidden], 0, kept) };
    }
    const two = await run(rest, feeds);
    expect(difference(one.image_features, two.image_features.data as Float32Array)).toBeLessThan(1e-5);
  });

  test('layers ascend', () => {
    const prunings = [2, 2].map((layer) => ({ layer, score }));
    expect(() => pruneEncoder(model, OUTPUT, prunings)).toThrow(/prunings\[1\]\.layer.*behind 2.*2/);
  });
});

describe('what cannot be', () => {
  const clip = readModel(fixture('clip-eager-17.onnx'));
  const score = { name: 'classAttention', heads: 'mean' };

  test.each([0, 2, -1, 0.5, NaN])('there is no pruning or cut before layer %d', (layer) => {
    expect(() => pruneEncoder(clip, OUTPUT, [{ layer, score }])).toThrow(OnnxArgumentError);
    expect(() => pruneEncoder(clip, OUTPUT, [{ layer, score }])).toThrow(/prunings\[0\]\.layer.*1 to 1/);
    expect(() => splitEncoder(clip, OUTPUT, layer)).toThrow(OnnxArgumentError);
  });

  test.each([
    [{ name: 'keys' }, /prunings\[0\]\.score\.name.*one value a patch.*keys/],
    [{ name: 'attentionShare' }, /one value a patch/],
    [{ name: 'nothing' }, /one of attentionGiven/],
    [{ name: 'classAttention', heads: 'some' }, /prunings\[0\]\.score\.heads.*joined or mean/],
  ])('a score has one value a patch: %o', (wrong, message) => {
    expect(() => pruneEncoder(clip, OUTPUT, [{ layer: 1, score: wrong }])).toThrow(message);
  });

  test('a class token among the features is refused', () => {
    const kept = readModel(fixture('clip-class-token-kept-17.onnx'));
    expect(() => splitEncoder(kept, OUTPUT, 1)).toThrow(OnnxStructureError);
  });
});
