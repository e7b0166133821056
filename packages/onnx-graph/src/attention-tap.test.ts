import { readFileSync } from 'node:fs';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  AttributeProto_AttributeType as Type,
  AttributeProtoSchema,
  ModelProtoSchema,
  TensorProto_DataType as DataType,
  TensorProtoSchema,
  type NodeProto,
} from 'onnx-buf';
import { expect, test } from 'vitest';
import { fixture } from '../fixtures/run.js';
import { addSignals, findVisionEncoder, OnnxStructureError, parseModel } from './index.js';

/** Adds a signal to a fixture whose attention nodes were changed. */
function tap(name: string, change: (node: NodeProto) => void): void {
  const proto = fromBinary(ModelProtoSchema, readFileSync(fixture(`${name}.onnx`)));
  for (const node of proto.graph?.node ?? []) if (node.opType.endsWith('Attention')) change(node);
  proto.graph?.initializer.push(create(TensorProtoSchema, { name: 'booleans', dataType: DataType.BOOL }));
  const model = parseModel(toBinary(ModelProtoSchema, proto));
  addSignals(model, findVisionEncoder(model), [{ name: 'attentionReceived' }]);
}

const flag = (name: string) => (node: NodeProto) => {
  node.attribute.push(create(AttributeProtoSchema, { name, type: Type.INT, i: 1n }));
};
const mask =
  (position: number, name: string = 'pixel_values') =>
  (node: NodeProto) => {
    while (node.input.length < position) node.input.push('');
    node.input[position] = name;
  };

test.each([
  ['clip-ms-attention', 'a mask', mask(3), /Attention .* with a mask or a cache/],
  ['clip-ms-attention', 'a past', mask(4), /a mask or a cache/],
  ['clip-ms-attention', 'a causal mask', flag('unidirectional'), /"unidirectional"/],
  ['clip-ms-multi-head-attention', 'padding', mask(4), /a mask or a cache/],
  ['clip-sdpa-dynamo-23', 'a cache', mask(4), /a mask or a cache/],
  ['clip-sdpa-dynamo-23', 'a mask of booleans', mask(3, 'booleans'), /not added to its scores/],
  ['clip-sdpa-dynamo-23', 'a causal mask', flag('is_causal'), /"is_causal"/],
])('%s with %s: scores from queries and keys alone would be wrong', (name, _, change, message) => {
  const tapped = (): void => {
    tap(name, (node) => {
      node.attribute = node.attribute.filter((attribute) => attribute.name !== 'is_causal');
      change(node);
    });
  };
  expect(tapped).toThrow(OnnxStructureError);
  expect(tapped).toThrow(message);
  expect(tapped).toThrow(/eager attention/);
});

test('the product of queries and keys may not turn axes itself where keys are wanted', () => {
  const proto = fromBinary(ModelProtoSchema, readFileSync(fixture('clip-saved-by-onnxruntime.onnx')));
  for (const node of proto.graph?.node ?? []) {
    for (const attribute of node.attribute) if (attribute.name === 'transBatchB') attribute.i = 1n;
  }
  const model = parseModel(toBinary(ModelProtoSchema, proto));
  const add = (name: string) => (): unknown => addSignals(model, findVisionEncoder(model), [{ name }]);
  expect(add('attentionReceived')).not.toThrow();
  expect(add('keys')).toThrow(OnnxStructureError);
  expect(add('keys')).toThrow(/"transBatchB"/);
});

test('a softmax over the queries is no attention', () => {
  const proto = fromBinary(ModelProtoSchema, readFileSync(fixture('clip-eager-17.onnx')));
  for (const node of proto.graph?.node ?? []) if (node.opType === 'Softmax') node.attribute[0].i = 2n;
  const model = parseModel(toBinary(ModelProtoSchema, proto));
  expect(() => findVisionEncoder(model)).toThrow(/none among its/);
});

test('packed queries and keys of MultiHeadAttention are refused', () => {
  const packed = (): void => {
    tap('clip-ms-multi-head-attention', (node) => node.input.splice(1, 2, '', ''));
  };
  expect(packed).toThrow(/packed queries and keys/);
});

test('an operator set too old for what is added', () => {
  const proto = fromBinary(ModelProtoSchema, readFileSync(fixture('clip-bmm-11.onnx')));
  proto.opsetImport[0].version = 10n;
  const model = parseModel(toBinary(ModelProtoSchema, proto));
  const add = (): unknown => addSignals(model, findVisionEncoder(model), [{ name: 'keys' }]);
  expect(add).toThrow(OnnxStructureError);
  expect(add).toThrow(/ai.onnx version 11 or later; found ai.onnx version 10. Export the model again/);
});
