/** Copies of bundles whose decoder is merged as Optimum does it. */
import { cp, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  AttributeProto_AttributeType as AttributeType,
  AttributeProtoSchema,
  GraphProtoSchema,
  ModelProtoSchema,
  NodeProtoSchema,
  TensorProto_DataType as DataType,
  TensorProtoSchema,
  type GraphProto,
} from 'onnx-buf';
import { temporaryFolder } from './bundles.js';
import { info } from './llama-graph.js';

/** The bundle with its decoder's nodes and weights in both branches of an If; `change` may change the one with a cache. */
export async function mergedBundle(
  bundle: string,
  change: (withCache: GraphProto) => void = () => undefined,
): Promise<string> {
  const folder = path.join(await temporaryFolder(), 'bundle');
  await cp(bundle, folder, { recursive: true });
  const file = path.join(folder, 'onnx/decoder_model_merged.onnx');
  const model = fromBinary(ModelProtoSchema, await readFile(file));
  merge(model.graph!, change);
  await writeFile(file, toBinary(ModelProtoSchema, model));
  return folder;
}

function merge(graph: GraphProto, change: (withCache: GraphProto) => void): void {
  const then_branch = create(GraphProtoSchema, { ...graph, name: 'with_past', input: [] });
  const else_branch = withoutCache(graph);
  change(then_branch);
  const attribute = Object.entries({ then_branch, else_branch }).map(([name, g]) =>
    create(AttributeProtoSchema, { name, type: AttributeType.GRAPH, g }),
  );
  const output = graph.output.map(({ name }) => name);
  graph.node = [
    create(NodeProtoSchema, { name: 'if', opType: 'If', input: ['use_cache_branch'], output, attribute }),
  ];
  graph.initializer = [];
  graph.input.push(info('use_cache_branch', DataType.BOOL, [1]));
}

/** The graph with an empty cache in place of the inputs. */
function withoutCache(graph: GraphProto): GraphProto {
  const given = graph.input.filter(({ name }) => name.startsWith('past_key_values.'));
  const empty = given.map(({ name, type }) => {
    const shape = type?.value.case === 'tensorType' ? (type.value.value.shape?.dim ?? []) : [];
    const [, heads = 0n, , channels = 0n] = shape.map(({ value }) =>
      value.case === 'dimValue' ? value.value : undefined,
    );
    const dims = [1n, heads, 0n, channels];
    return create(TensorProtoSchema, { name: `${name}.empty`, dataType: DataType.FLOAT, dims });
  });
  const past = new Set(given.map(({ name }) => name));
  const node = graph.node.map((one) => {
    const input = one.input.map((name) => (past.has(name) ? `${name}.empty` : name));
    return create(NodeProtoSchema, { ...one, input });
  });
  const initializer = [...graph.initializer, ...empty];
  return create(GraphProtoSchema, { ...graph, name: 'no_past', input: [], node, initializer });
}
