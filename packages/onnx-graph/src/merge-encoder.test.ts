import * as fc from 'fast-check';
import { Tensor } from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import { encoderGraph, PATCHES } from '../fixtures/encoder-graph.js';
import {
  randomEncoder,
  randomMatrix,
  randomNumbers,
  runPlain,
  type Matrix,
  type PlainEncoder,
} from '../fixtures/plain-encoder.js';
import { BATCH, difference, expectedValues, fixture, FIXTURES, pixels, run } from '../fixtures/run.js';
import { readModel } from './files.js';
import {
  addSignals,
  findVisionEncoder,
  mergeEncoder,
  OnnxStructureError,
  splitAtFeatures,
  splitEncoder,
  weighSizes,
  type AttentionForm,
} from './index.js';

const OUTPUT = { output: 'image_features' };
const SIZES = { width: 12, heads: 3, inner: 10, layers: 3 };
const FORMS: AttentionForm[] = [
  'softmax',
  'ai.onnx.Attention',
  'com.microsoft.Attention',
  'com.microsoft.MultiHeadAttention',
];

const tensor = ({ data, columns }: Matrix): Tensor =>
  new Tensor('float32', Float32Array.from(data), [1, data.length / columns, columns]);
const integers = (values: readonly number[]): Tensor =>
  new Tensor('int64', BigInt64Array.from(values, BigInt), [values.length]);
const numbers = (one: Tensor): number[] => Array.from(one.data as BigInt64Array, Number);

/** [tokens left][patches] of each token, ascending. */
function groupsOf(owners: readonly number[]): number[][] {
  const groups: number[][] = [];
  for (const [patch, owner] of owners.entries()) (groups[owner] ??= []).push(patch);
  return groups;
}

/** The graph that merges, cut at its features. */
async function runMerging(
  encoder: PlainEncoder,
  form: AttentionForm,
  patches: Matrix,
  counts: readonly number[],
): Promise<{ features: Tensor; received: Tensor; groups: number[][]; attended: number[][] }> {
  const merged = mergeEncoder(encoderGraph(encoder, form), OUTPUT);
  const found = findVisionEncoder(merged.model, OUTPUT);
  expect(found.prefixTokens).toBe((encoder.prefix?.data.length ?? 0) / SIZES.width);
  const { model, outputs: signals } = addSignals(merged.model, found, [{ name: 'attentionReceived' }]);
  const cut = splitAtFeatures(model, found);
  const outputs = await run(cut.encoder, {
    [PATCHES]: tensor(patches),
    [merged.mergeCounts]: integers(counts),
  });
  const [owners, attended] = [merged.owners, merged.attended].map((name) => numbers(outputs[name]));
  return {
    features: outputs[cut.features],
    received: outputs[signals[0]],
    groups: groupsOf(owners),
    attended: groupsOf(attended),
  };
}

const cases = FORMS.flatMap((form) => [0, 1, 2].map((prefix) => ({ form, prefix })));

describe.each(cases)('$form with $prefix prefix tokens', ({ form, prefix }) => {
  const encoder = randomEncoder(7, { ...SIZES, prefix });

  test.each([
    ['the same in each layer', 17, [3, 3, 3]],
    ['one layer alone', 16, [0, 5, 0]],
    ['as many as there can be', 17, [100, 100, 100]],
    ['down to one patch', 4, [2, 1, 1]],
    ['of one patch', 1, [1, 1, 1]],
  ])('merges as the plain encoder: %s', async (_, length, counts) => {
    const patches = randomMatrix(randomNumbers(3), length, SIZES.width);
    const plain = runPlain(encoder, patches, counts);
    const { features, received, groups, attended } = await runMerging(encoder, form, patches, counts);
    expect(groups).toEqual(plain.groups);
    expect(difference(received, plain.received)).toBeLessThan(1e-5);
    expect(attended).toEqual(runPlain(encoder, patches, counts.with(-1, 0)).groups);
    expect(features.dims).toEqual([1, groups.length, SIZES.width]);
    expect(difference(features, plain.features.data)).toBeLessThan(2e-5 * largest(plain.features));
  });

  test('merging nothing is the original', async () => {
    const patches = randomMatrix(randomNumbers(5), 9, SIZES.width);
    const whole = await run(encoderGraph(encoder, form), { [PATCHES]: tensor(patches) });
    const merged = mergeEncoder(encoderGraph(encoder, form), OUTPUT);
    const all = await run(merged.model, {
      [PATCHES]: tensor(patches),
      [merged.mergeCounts]: integers([0, -1, 0]),
    });
    const expected = whole.image_features.data as Float32Array;
    expect(difference(all.image_features, expected)).toBeLessThan(1e-4);
    expect(numbers(all[merged.owners])).toEqual(Array.from({ length: 9 }, (_, i) => i));
  });
});

test.each(FIXTURES)(
  'as exporters write it: $name',
  async ({ name, patches, layers, featuresLayer, tolerance }) => {
    const model = readModel(fixture(`${name}.onnx`));
    const { input } = findVisionEncoder(model, OUTPUT);
    const merged = mergeEncoder(model, OUTPUT);
    expect(merged.layers).toBe(featuresLayer + 1);
    expect(layers).toBeGreaterThanOrEqual(merged.layers);
    const { data, dims } = pixels();
    const image = (data as Float32Array).slice(0, data.length / BATCH);
    const runWith = (counts: readonly number[]): Promise<Record<string, Tensor>> =>
      run(merged.model, {
        [input]: new Tensor('float32', image, [1, ...dims.slice(1)]),
        [merged.mergeCounts]: integers(counts),
      });
    const nothing = Array<number>(merged.layers).fill(0);
    const all = await runWith(nothing);
    const { imageFeatures } = expectedValues(FIXTURES.find((one) => one.name === name)!.model);
    const expected = imageFeatures.slice(0, imageFeatures.length / BATCH);
    expect(difference(all.image_features, expected)).toBeLessThan(8 * tolerance.features);
    const some = await runWith(nothing.fill(3));
    expect(some.image_features.dims).toEqual([1, patches - 3 * merged.layers, 12]);
    expect(groupsOf(numbers(some[merged.owners]))).toHaveLength(patches - 3 * merged.layers);
  },
);

test('a token of several equal patches weighs as much as they did', async () => {
  const samples = fc.record({
    seed: fc.integer({ min: 1, max: 1e6 }),
    pairs: fc.integer({ min: 2, max: 6 }),
    prefix: fc.integer({ min: 0, max: 2 }),
    form: fc.constantFrom(...FORMS),
  });
  await fc.assert(
    fc.asyncProperty(samples, async ({ seed, pairs, prefix, form }) => {
      const encoder = randomEncoder(seed, { ...SIZES, prefix });
      const once = randomMatrix(randomNumbers(seed + 1), pairs, SIZES.width);
      const twice = { ...once, data: rowsOf(once).flatMap((row) => [...row, ...row]) };
      const all = await runMerging(encoder, form, twice, [0, 0, 0]);
      const halved = await runMerging(encoder, form, twice, [pairs, 0, 0]);
      expect(halved.groups).toEqual(Array.from({ length: pairs }, (_, pair) => [2 * pair, 2 * pair + 1]));
      const expected = rowsOf(matrixOf(all.features)).filter((_, token) => token % 2 === 1);
      expect(difference(halved.features, expected.flat())).toBeLessThan(1e-4 * largest(once));
    }),
    { numRuns: 15 },
  );
});

describe('what cannot be', () => {
  const encoder = randomEncoder(1, { ...SIZES, prefix: 1 });

  test.each(FORMS.filter((form) => form !== 'softmax'))('%s whose scores something is added to', (form) => {
    const model = encoderGraph(encoder, form);
    const place = form === 'ai.onnx.Attention' ? 3 : 5;
    for (const node of model.graph.node.filter(({ opType }) => opType.endsWith('Attention'))) {
      while (node.input.length < place) node.input.push('');
      node.input[place] = PATCHES;
    }
    for (const change of [mergeEncoder, weighSizes]) {
      expect(() => change(model, OUTPUT)).toThrow(OnnxStructureError);
      expect(() => change(model, OUTPUT)).toThrow(/nothing is added to yet.*eager attention/s);
    }
  });

  test('a class token among the features is refused', () => {
    const kept = readModel(fixture('clip-class-token-kept-17.onnx'));
    expect(() => mergeEncoder(kept, OUTPUT)).toThrow(/features of patches alone/);
  });

  test.each([-1, 3, 0.5])('there is no cut within layer %d', (layer) => {
    const model = encoderGraph(encoder, 'softmax');
    expect(() => splitEncoder(model, OUTPUT, layer, 'within')).toThrow(/layer.*0 to 2/);
  });
});

function rowsOf({ data, columns }: Matrix): number[][] {
  return Array.from({ length: data.length / columns }, (_, row) =>
    data.slice(row * columns, (row + 1) * columns),
  );
}

function matrixOf({ data, dims }: Tensor): Matrix {
  return { data: [...(data as Float32Array)], columns: dims[2] };
}

function largest({ data }: Matrix): number {
  return data.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
}
