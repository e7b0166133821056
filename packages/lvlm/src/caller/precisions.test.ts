/** Bundles in other precisions: one for all graphs, or one a graph. */
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { TokenReducer } from '@foveate/core';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import {
  ModelProtoSchema,
  NodeProtoSchema,
  TensorProto_DataType as DataType,
  TensorProtoSchema,
  type ModelProto,
  type TensorProto,
} from 'onnx-buf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CACHE } from '../../test/bundles.js';
import { familyBundle, familyCases, familyPicture, type FamilyCase } from '../../test/families.js';
import { loadReference } from '../../test/transformers-js.js';
import { toHalf } from '../engine/half-precision.js';
import { Lvlm, type GenerateOptions, type GenerateResult, type LoadOptions } from '../index.js';

const bundle = familyBundle('llava');
const cases = familyCases('llava');
const END = 258;

async function answers(
  dtype: NonNullable<LoadOptions['dtype']>,
  options: (one: FamilyCase) => Partial<GenerateOptions> = () => ({}),
  folder: string = bundle,
): Promise<GenerateResult[]> {
  await using model = await Lvlm.load(folder, { dtype, cacheDirectory: CACHE });
  return await Promise.all(
    cases.map((one) =>
      model.generate({
        images: one.pictures.map(familyPicture),
        prompt: one.text,
        maxNewTokens: 8,
        ...options(one),
      }),
    ),
  );
}

const tokensOf = (results: readonly GenerateResult[]): (readonly number[])[] =>
  results.map(({ tokenIds }) => tokenIds);

/** Of each picture, by the first reducer. */
const keptOf = (results: readonly GenerateResult[]): unknown =>
  results.map(({ images }) => images.map(({ crops: [{ steps }] }) => steps[0].kept));

/** Its rounding changes none of these answers, whose choices have margins. */
describe('a decoder of float16, with its embeddings, logits and cache', () => {
  const dtype = { decoder_model_merged: 'fp16', embed_tokens: 'fp16' } as const;
  test.each([
    ['every token', [], 'tokens'],
    ['FoPru', [fopruRank({ keepRatio: 0.25 })], 'fopruTokens'],
    ['FastV', [fastv({ layer: 1, keepRatio: 0.25 })], 'fastvTokens'],
  ] as const)('%s', async (_, reducers, expected) => {
    const results = await answers(dtype, () => ({ reducers }));
    expect(tokensOf(results)).toEqual(cases.map((one) => one[expected]));
    const { kvBytes, cached } = results[0].memory;
    // 3 layers, keys and values of 2 heads of 8 numbers of 2 bytes.
    if (reducers.length === 0)
      expect(kvBytes).toBe(3 * 2 * 2 * 8 * 2 * (cached.text + cached.visual + cached.generated));
  });
});

test('an encoder of float16: FoPru keeps the same tokens', async () => {
  const results = await answers({ vision_encoder: 'fp16' }, () => ({
    reducers: [fopruRank({ keepRatio: 0.25 })],
  }));
  expect(keptOf(results)).toEqual(cases.map((one) => one.kept));
});

describe.each(['q8', { decoder_model_merged: 'q4' }] as const)('%o', (dtype) => {
  // How int8 rounds depends on how many tokens are run together: there is an oracle with all tokens only.
  test('answers as transformers.js with every token', async () => {
    const reference = await loadReference(
      bundle,
      typeof dtype === 'string' ? dtype : { vision_encoder: 'fp32', embed_tokens: 'fp32', ...dtype },
    );
    const [one] = cases;
    const images = one.pictures.map(familyPicture);
    const expected = await reference.answer(images, reference.render(one.text, images.length), 8);
    await reference.dispose();
    const [{ tokenIds }] = await answers(dtype);
    expect(tokenIds).toEqual(expected.filter((token) => token !== END));
  });

  test('reduces before and inside the language model', async () => {
    const reducers = [fopruRank({ keepRatio: 0.5 }), fastv({ layer: 1, keepRatio: 0.5 })];
    for (const { images } of await answers(dtype, () => ({ reducers }))) {
      expect(images.map(({ crops: [{ steps }] }) => steps[0].outputTokens)).toEqual(images.map(() => 8));
      const left = images.map(({ outputTokens }) => outputTokens);
      expect(left.reduce((sum, count) => sum + count, 0)).toBe(4 * images.length);
    }
  });
});

/**
 * 4-bit weights in a graph of float16: embeddings, logits and cache are float16. The weights are those of q4,
 * and so are the answers.
 */
describe('q4f16', () => {
  const dtype = { decoder_model_merged: 'q4f16', embed_tokens: 'fp16' } as const;
  let folder: string;
  beforeAll(async () => {
    folder = path.join(await mkdtemp(path.join(tmpdir(), 'foveate-lvlm-')), 'bundle');
    await cp(bundle, folder, { recursive: true });
    const graph = await inHalfPrecision(path.join(folder, 'onnx/decoder_model_merged'));
    await writeFile(path.join(folder, 'onnx/decoder_model_merged_q4f16.onnx'), graph);
  });
  afterAll(() => rm(path.dirname(folder), { recursive: true }));

  test('answers as q4', async () => {
    const results = await answers(dtype, () => ({}), folder);
    expect(tokensOf(results)).toEqual(tokensOf(await answers({ decoder_model_merged: 'q4' })));
    const { kvBytes, cached } = results[0].memory;
    expect(kvBytes).toBe(3 * 2 * 2 * 8 * 2 * (cached.text + cached.visual + cached.generated));
  });

  test.each([
    ['FoPru', () => ({ reducers: [fopruRank({ keepRatio: 0.25 })] })],
    ['a repetition penalty', () => ({ repetitionPenalty: 1.5 })],
  ])('answers as q4 with %s', async (_, options) => {
    const results = await answers(dtype, options, folder);
    expect(tokensOf(results)).toEqual(tokensOf(await answers({ decoder_model_merged: 'q4' }, options)));
  });

  // What q4 answers here has no margin that rounding could not change: what is kept is compared with it.
  test('FastV keeps what it keeps with q4, in one graph or by its plans between two', async () => {
    const { rule, ...planned } = fastv({ layer: 1, keepRatio: 0.25 });
    const [inGraph, between] = [[{ ...planned, rule } as TokenReducer], [planned as TokenReducer]];
    const results = await answers(dtype, () => ({ reducers: inGraph }), folder);
    const expected = await answers({ decoder_model_merged: 'q4' }, () => ({ reducers: inGraph }));
    expect(keptOf(results)).toEqual(keptOf(expected));
    const split = await answers(dtype, () => ({ reducers: between }), folder);
    expect(tokensOf(split)).toEqual(tokensOf(results));
  });
});

/** The graph FILE_fp16.onnx with the matrices of FILE_q4.onnx. */
async function inHalfPrecision(file: string): Promise<Uint8Array> {
  const read = async (suffix: string): Promise<ModelProto> =>
    fromBinary(ModelProtoSchema, await readFile(`${file}_${suffix}.onnx`));
  const [half, quantized] = await Promise.all([read('fp16'), read('q4')]);
  const of = new Map(quantized.graph!.initializer.map((tensor) => [tensor.name, tensor]));
  const nodes = quantized.graph!.node.filter(({ opType }) => opType === 'MatMulNBits');
  for (const node of nodes) {
    const index = half.graph!.node.findIndex(({ output }) => output[0] === node.output[0]);
    expect(half.graph!.node[index].opType).toBe('MatMul');
    const [x] = half.graph!.node[index].input;
    half.graph!.node[index] = create(NodeProtoSchema, { ...node, input: [x, ...node.input.slice(1)] });
    const constants = node.input.slice(1).flatMap((name) => of.get(name) ?? []);
    half.graph!.initializer.push(...constants.map(halved));
  }
  half.opsetImport = quantized.opsetImport;
  return toBinary(ModelProtoSchema, half);
}

/** The tensor in float16 where it is float32. */
function halved(tensor: TensorProto): TensorProto {
  if (tensor.dataType !== (DataType.FLOAT as number)) return tensor;
  const bits = toHalf(new Float32Array(Uint8Array.from(tensor.rawData).buffer));
  const rawData = Uint8Array.from(new Uint8Array(bits.buffer));
  return create(TensorProtoSchema, { ...tensor, rawData, dataType: DataType.FLOAT16 });
}

test("a bundle's own choice of dtype", async () => {
  await expect(Lvlm.load(bundle, { dtype: { vision_encoder: 'q4' } })).rejects.toThrow(
    /vision_encoder_q4\.onnx is missing.*Of vision_encoder there is the dtype fp32, fp16, q8\./,
  );
  await expect(Lvlm.load(bundle, { dtype: { decoder: 'q4' } as never })).rejects.toThrow(
    /dtype must be one of auto/,
  );
});
