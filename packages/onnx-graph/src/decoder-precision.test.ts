/** Decoders in half precision and with weights in 8 bits: the fixtures, converted here. */
import { readFileSync } from 'node:fs';
import { create } from '@bufbuild/protobuf';
import {
  AttributeProto_AttributeType as AttributeType,
  AttributeProtoSchema,
  TensorProto_DataType as DataType,
  type NodeProto,
  type TensorProto,
} from 'onnx-buf';
import type { Tensor } from 'onnxruntime-node';
import { expect, test } from 'vitest';
import {
  CachedSession,
  decoderFile,
  DECODERS,
  expectedDecoder,
  integers,
  PROMPT,
} from '../fixtures/decoders/run.js';
import { makeNode } from '../fixtures/make.js';
import { difference } from '../fixtures/run.js';
import { readModel } from './files.js';
import { decoderSignals, parseModel, pruneDecoder, splitDecoder, type OnnxModel } from './index.js';

const { visual, keep, cuts } = expectedDecoder();
const FLOAT: number = DataType.FLOAT;

function floatsOf({ rawData }: TensorProto): Float32Array {
  return new Float32Array(Uint8Array.from(rawData).buffer);
}

function cast(from: string, to: string, type: DataType): NodeProto {
  const node = makeNode('Cast', [from], [to]);
  node.attribute.push(create(AttributeProtoSchema, { name: 'to', type: AttributeType.INT, i: BigInt(type) }));
  return node;
}

/** IEEE 754 binary16 of a normal number or 0, truncated. */
function half(value: number): number {
  if (Math.abs(value) < 2 ** -14) return 0;
  const exponent = Math.floor(Math.log2(Math.abs(value)));
  const fraction = Math.floor((Math.abs(value) / 2 ** exponent - 1) * 1024);
  return (value < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | fraction;
}

/** Everything between the inputs and outputs, which stay float32, in half precision. */
function inHalfPrecision(name: string): OnnxModel {
  const model = parseModel(readFileSync(decoderFile(name)));
  const { graph } = model;
  const isFloat = (info: OnnxModel['graph']['input'][number]): boolean =>
    info.type?.value.case === 'tensorType' && info.type.value.value.elemType === FLOAT;
  for (const tensor of graph.initializer.filter(({ dataType }) => dataType === FLOAT)) {
    tensor.rawData = new Uint8Array(Uint16Array.from(floatsOf(tensor), half).buffer);
    tensor.dataType = DataType.FLOAT16;
  }
  const inputs = graph.input.filter(isFloat).map((info) => info.name);
  const outputs = graph.output.filter(isFloat).map((info) => info.name);
  const edges = new Set([...inputs, ...outputs]);
  const inside = (tensor: string): string => (edges.has(tensor) ? `${tensor}/half` : tensor);
  for (const node of graph.node) {
    node.input = node.input.map(inside);
    node.output = node.output.map(inside);
  }
  graph.valueInfo = [];
  graph.node.unshift(...inputs.map((input) => cast(input, inside(input), DataType.FLOAT16)));
  graph.node.push(...outputs.map((output) => cast(inside(output), output, DataType.FLOAT)));
  return model;
}

/**
 * Every matrix in 8 bits, and what it is multiplied with by the range of each run, as onnxruntime's dynamic
 * quantisation writes it.
 */
function inEightBits(name: string): OnnxModel {
  const model = parseModel(readFileSync(decoderFile(name)));
  const { graph } = model;
  const weights = new Map(graph.initializer.map((tensor) => [tensor.name, tensor]));
  graph.node = graph.node.flatMap((node) => {
    const [x = '', w = ''] = node.input;
    const weight = weights.get(w);
    if (node.opType !== 'MatMul' || weight?.dims.length !== 2) return [node];
    const values = floatsOf(weight);
    const scale = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0) / 127;
    weight.rawData = new Uint8Array(Int8Array.from(values, (value) => Math.round(value / scale)).buffer);
    weight.dataType = DataType.INT8;
    const rawData = new Uint8Array(Float32Array.of(scale).buffer);
    graph.initializer.push({ ...weight, name: `${w}/scale`, dims: [], dataType: DataType.FLOAT, rawData });
    const [result] = node.output;
    const part = (what: string): string => `${result}/${what}`;
    return [
      makeNode('DynamicQuantizeLinear', [x], [part('x'), part('scale'), part('zero')]),
      makeNode('MatMulInteger', [part('x'), w, part('zero')], [part('sum')]),
      cast(part('sum'), part('float'), DataType.FLOAT),
      makeNode('Mul', [part('scale'), `${w}/scale`], [part('scales')]),
      makeNode('Mul', [part('float'), part('scales')], [result]),
    ];
  });
  return model;
}

const NAMES = DECODERS.filter((name) => name !== 'llama-eager'); // its constants are typed in their nodes too
const cases = [
  ...NAMES.map((name) => ({ name, precision: 'half precision', make: inHalfPrecision, rounding: 0.02 })),
  ...DECODERS.map((name) => ({ name, precision: '8 bits', make: inEightBits, rounding: 0.1 })),
];

test.each(cases)('$name in $precision', async ({ name, make, rounding }) => {
  const model = make(name);
  const [, { layer, last }] = cuts;
  const pruned = pruneDecoder(model, [{ layer }]);
  const [names] = pruned.prunings;
  const feeds = (count: number): Record<string, Tensor> => ({
    [pruned.visualTokens]: integers(visual),
    [names.keepCount]: integers([count]),
  });
  const session = await CachedSession.open(pruned.model);
  const out = await session.tokens(0, PROMPT, feeds(keep));
  const scores = out[names.promptAttention].data as Float32Array;
  expect(difference(out[names.promptAttention], last.scores)).toBeLessThan(rounding);
  const kept = new Set(Array.from(out[names.keptTokens].data as BigInt64Array, Number));
  const ranked = visual.toSorted((a, b) => scores[b] - scores[a] || a - b);
  expect(visual.filter((place) => kept.has(place))).toEqual(ranked.slice(0, keep).toSorted((a, b) => a - b));
  expect(session.cached(layer)).toBe(PROMPT - visual.length + keep);
  await session.release();

  const [original, all] = [await CachedSession.open(model), await CachedSession.open(pruned.model)];
  const whole = await original.tokens(0, PROMPT);
  const same = await all.tokens(0, PROMPT, feeds(100));
  // Sessions fuse what they round differently.
  expect(difference(same.logits, whole.logits.data as Float32Array)).toBeLessThan(rounding);
  await original.release();
  await all.release();
  const { parts } = splitDecoder(model, [{ layer }]);
  for (const part of parts) await (await CachedSession.open(part.model)).release();
  const [values, exact] = [await signalsOf(model), await signalsOf(readModel(decoderFile(name)))];
  for (const [i, value] of values.entries()) {
    expect(value.type).toBe('float32');
    const size = (exact[i].data as Float32Array).reduce((most, x) => Math.max(most, Math.abs(x)), 1);
    expect(difference(value, exact[i].data as Float32Array)).toBeLessThan(rounding * size);
  }
});

/** Every signal of the prompt before layer 2, of the layer before it or behind. */
async function signalsOf(model: OnnxModel): Promise<Tensor[]> {
  const before = [...decoderSignals.keys()].map((signal) => ({ name: signal, layer: 1 }));
  const signals = [
    ...before,
    { name: 'promptAttention', layer: 2 },
    { name: 'hiddenStates', layer: 1, norm: 'final' },
  ];
  const [part] = splitDecoder(model, [{ layer: 2, signals }]).parts;
  const session = await CachedSession.open(part.model);
  const out = await session.tokens(0, PROMPT, {
    [part.visualTokens!]: integers(visual),
    [part.questionTokens!]: integers([2]),
  });
  await session.release();
  return part.signals.map((signal) => out[signal]);
}
