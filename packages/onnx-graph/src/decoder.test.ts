/** Decoders that cannot be pruned or cut, and where the choice or the files are out of the ordinary. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import {
  AttributeProto_AttributeType as AttributeType,
  AttributeProtoSchema,
  ModelProtoSchema,
  StringStringEntryProtoSchema,
  TensorProto_DataLocation,
  TensorProtoSchema,
  TensorProto_DataType as DataType,
  type AttributeProto,
  type NodeProto,
} from 'onnx-buf';
import { Tensor } from 'onnxruntime-node';
import { expect, onTestFinished, test } from 'vitest';
import {
  CachedSession,
  DECODERS,
  decoderFile,
  expectedDecoder,
  integers,
  LAYERS,
  ones,
  PROMPT,
  VOCABULARY,
  WIDTH,
} from '../fixtures/decoders/run.js';
import { makeNode } from '../fixtures/make.js';
import { difference } from '../fixtures/run.js';
import { valueInfo } from './graph-editor.js';
import {
  findDecoder,
  OnnxStructureError,
  pruneDecoder,
  parseModel,
  splitDecoder,
  type OnnxModel,
} from './index.js';
import { readModel } from './files.js';

const { visual, keep, cuts } = expectedDecoder();

/** A fixture whose graph the test may change. */
function changed(name: (typeof DECODERS)[number], change: (graph: OnnxModel['graph']) => void): OnnxModel {
  const model = parseModel(readFileSync(decoderFile(name)));
  change(model.graph);
  return model;
}

/** The GroupQueryAttention of one layer. */
function groupQuery({ node }: OnnxModel['graph'], layer: number): NodeProto {
  return node.filter(({ opType }) => opType === 'GroupQueryAttention')[layer];
}

function integer(name: string, value: number): AttributeProto {
  return create(AttributeProtoSchema, { name, type: AttributeType.INT, i: BigInt(value) });
}

test.each(DECODERS)('%s: of equal scores the lower places are kept', async (name) => {
  const pruned = pruneDecoder(readModel(decoderFile(name)), [{ layer: 1 }]);
  const session = await CachedSession.open(pruned.model);
  const embeddings = Float32Array.from(
    { length: PROMPT * WIDTH },
    (_, i) => (i < (PROMPT - 1) * WIDTH ? Math.sin(i) : 0), // a last token of zeros asks for nothing: it attends to all alike
  );
  const out = await session.run({
    inputs_embeds: new Tensor('float32', embeddings, [1, PROMPT, WIDTH]),
    attention_mask: ones(PROMPT),
    position_ids: integers(
      Array.from({ length: PROMPT }, (_, i) => i),
      [1, PROMPT],
    ),
    [pruned.visualTokens]: integers(visual),
    [pruned.prunings[0].keepCount]: integers([keep]),
  });
  const scores = out[pruned.prunings[0].promptAttention].data as Float32Array;
  expect(new Set(visual.map((place) => scores[place])).size).toBe(1);
  const kept = new Set(Array.from(out[pruned.prunings[0].keptTokens].data as BigInt64Array, Number));
  expect(visual.filter((place) => kept.has(place))).toEqual(visual.slice(0, keep));
  await session.release();
});

test.each(DECODERS)('%s: weights in a file beside the graph stay there', async (name) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'foveate-onnx-graph-'));
  onTestFinished(() => {
    rmSync(folder, { recursive: true });
  });
  const { proto, graph } = parseModel(readFileSync(decoderFile(name)));
  const parts: Uint8Array[] = [];
  let offset = 0;
  for (const tensor of graph.initializer.filter(({ rawData }) => rawData.length >= 64)) {
    const { rawData } = tensor;
    const entries = Object.entries({
      location: 'weights',
      offset: String(offset),
      length: String(rawData.length),
    });
    tensor.externalData = entries.map(([key, value]) => create(StringStringEntryProtoSchema, { key, value }));
    tensor.dataLocation = TensorProto_DataLocation.EXTERNAL;
    tensor.rawData = new Uint8Array();
    parts.push(rawData);
    offset += rawData.length;
  }
  writeFileSync(path.join(folder, 'weights'), Buffer.concat(parts));
  writeFileSync(path.join(folder, 'decoder.onnx'), toBinary(ModelProtoSchema, proto));
  const model = readModel(path.join(folder, 'decoder.onnx'));
  const { layer, last } = cuts[1];
  const pruned = pruneDecoder(model, [{ layer }]);
  const session = await CachedSession.open(pruned.model);
  const feeds = { [pruned.visualTokens]: integers(visual), [pruned.prunings[0].keepCount]: integers([keep]) };
  const { logits } = await session.tokens(0, PROMPT, feeds);
  const row = (logits.data as Float32Array).slice(-VOCABULARY);
  expect(difference(new Tensor(row, [VOCABULARY]), last.logits.slice(0, VOCABULARY))).toBeLessThan(1e-4);
  await session.release();
  const { parts: parted } = splitDecoder(model, [{ layer }]);
  for (const part of parted) await (await CachedSession.open(part.model)).release();
});

test.each([
  [
    'softcap',
    (node: NodeProto) =>
      node.attribute.push(
        create(AttributeProtoSchema, { name: 'softcap', type: AttributeType.FLOAT, f: 30 }),
      ),
  ],
  ['local_window_size', (node: NodeProto) => node.attribute.push(integer('local_window_size', 8))],
  ['smooth_softmax', (node: NodeProto) => node.attribute.push(integer('smooth_softmax', 1))],
  ['attention_bias', (node: NodeProto) => node.input.push('attention_mask')],
  ['head_sink', (node: NodeProto) => node.input.push('', 'attention_mask')],
] as const)('GroupQueryAttention with %s is refused', (what, change) => {
  const model = changed('llama-group-query-positions', (graph) => change(groupQuery(graph, 1)));
  for (const patch of [
    () => pruneDecoder(model, [{ layer: 2 }]), // its scores are read
    () => pruneDecoder(model, [{ layer: 1 }]), // it runs on fewer tokens
    () => splitDecoder(model, [{ layer: 1 }]),
  ]) {
    expect(patch).toThrow(OnnxStructureError);
    expect(patch).toThrow(`with ${what}`);
  }
});

test('positions that are made inside the graph are refused where attention is written out', () => {
  const model = changed('llama-eager', (graph) => {
    const int64Data = Array.from({ length: PROMPT }, (_, i) => BigInt(i));
    const dims = [1n, BigInt(PROMPT)];
    graph.initializer.push(
      create(TensorProtoSchema, { name: 'position_ids', dataType: DataType.INT64, dims, int64Data }),
    );
    graph.input = graph.input.filter(({ name }) => name !== 'position_ids');
  });
  expect(() => findDecoder(model)).toThrow(OnnxStructureError);
  expect(() => findDecoder(model)).toThrow(/the input "position_ids".*Export the decoder with position_ids/);
});

test.each(['inputs_embeds', 'past_key_values.0.key', 'past_key_values.2.value', 'attention_mask'])(
  'without the input %s it is no decoder',
  (missing) => {
    const model = changed('llama-group-query', (graph) => {
      for (const input of graph.input) if (input.name === missing) input.name = 'other';
      for (const node of graph.node)
        node.input = node.input.map((name) => (name === missing ? 'other' : name));
    });
    expect(() => findDecoder(model)).toThrow(OnnxStructureError);
    expect(() => findDecoder(model)).toThrow(`the input "${missing}" of a decoder`);
  },
);

test.each(['logits', 'present.1.value'])('without the output %s it is no decoder', (missing) => {
  const model = changed('llama-eager', (graph) => {
    graph.output = graph.output.filter(({ name }) => name !== missing);
  });
  expect(() => findDecoder(model)).toThrow(`the output "${missing}" of a decoder`);
});

test('caches without a fixed number of heads are refused', () => {
  const model = changed('llama-group-query', (graph) => {
    const type = graph.input.find(({ name }) => name === 'past_key_values.0.key')?.type?.value;
    if (type?.case === 'tensorType') delete type.value.shape;
  });
  expect(() => findDecoder(model)).toThrow(/no fixed number of heads and channels/);
});

test('layers that share more than the hidden state cannot be parted', () => {
  const model = changed('llama-eager', (graph) => {
    const head = graph.node.findIndex(({ output }) => output.includes('logits'));
    const { input } = graph.node[head];
    graph.node.splice(head, 0, makeNode('Add', [input[0], 'inputs_embeds'], ['skipped']));
    input[0] = 'skipped';
  });
  for (let layer = 1; layer < LAYERS; layer++) {
    for (const patch of [() => pruneDecoder(model, [{ layer }]), () => splitDecoder(model, [{ layer }])]) {
      expect(patch).toThrow(OnnxStructureError);
    }
  }
  expect(() => splitDecoder(model, [{ layer: 2 }])).toThrow(
    /reads the values of "inputs_embeds"|more than the hidden state/,
  );
});

test.each(['past_conv.1', 'past_recurrent.0', 'past_key_values.0.conv_state'])(
  'a hybrid decoder with the input %s is refused',
  (name) => {
    const model = changed('llama-eager', (graph) => {
      graph.input.push(valueInfo(name, DataType.FLOAT, ['batch_size', 16, 3]));
    });
    expect(() => findDecoder(model)).toThrow(OnnxStructureError);
    expect(() => findDecoder(model)).toThrow(`the input "${name}" of a hybrid one`);
  },
);
