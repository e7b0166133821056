/**
 * A hybrid language model: before its first layer a convolution and a running sum mix the tokens, whose states
 * go from run to run beside the keys and values, as in LFM2 and Qwen3.5.
 */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema, TensorProto_DataType as DataType } from 'onnx-buf';
import { GraphWriter, info } from './llama-graph.js';
import type { Rows } from './plain-decoding.js';

/** Numbers of its layers that have keys and values, and of all. */
export const ATTENTION_LAYERS: readonly number[] = [1, 3, 4, 6];
export const HYBRID_LAYERS = 8;

/** Weights of the token before, and of the sum of all tokens up to this one. */
const [BEFORE, SUM] = [0.5, 0.1];

/** Makes a bundle's decoder with four layers a hybrid one. */
export async function makeHybrid(bundle: string, width: number): Promise<void> {
  const file = path.join(bundle, 'onnx/decoder_model_merged.onnx');
  const model = fromBinary(ModelProtoSchema, await readFile(file));
  const graph = model.graph!;
  const renumbered = (name: string): string =>
    name.replace(
      /^(past_key_values|present)\.(\d)/,
      (_, cache, i) => `${cache}.${ATTENTION_LAYERS[Number(i)]}`,
    );
  for (const one of [...graph.input, ...graph.output]) one.name = renumbered(one.name);
  for (const node of graph.node) {
    node.input = node.input.map((name) => (name === 'inputs_embeds' ? 'mixed' : renumbered(name)));
    node.output = node.output.map(renumbered);
  }
  const mixing = mix();
  graph.node.unshift(...mixing.nodes);
  graph.initializer.push(...mixing.constants);
  for (const [list, when] of [
    [graph.input, 'past'],
    [graph.output, 'present'],
  ] as const) {
    list.push(info(`${when}_conv.0`, DataType.FLOAT, ['batch_size', width, 1]));
    list.push(info(`${when}_recurrent.${HYBRID_LAYERS - 1}`, DataType.FLOAT, ['batch_size', width]));
  }
  await writeFile(file, toBinary(ModelProtoSchema, model));
}

function mix(): GraphWriter {
  const graph = new GraphWriter('mix');
  const node: GraphWriter['node'] = (...args) => graph.node(...args);
  const x = 'inputs_embeds';
  const scalar = (value: number): string => graph.floats(Float32Array.of(value), []);
  const slice = (from: string, start: number, end: number): string =>
    node('Slice', [from, graph.ints([start]), graph.ints([end]), graph.ints([1])]);
  const all = node('Concat', [node('Transpose', ['past_conv.0'], { perm: [0, 2, 1] }), x], { axis: 1 });
  node('Transpose', [slice(all, -1, 2 ** 31 - 1)], { perm: [0, 2, 1] }, 'present_conv.0');
  const before = node('Mul', [slice(all, 0, -1), scalar(BEFORE)]);
  const past = node('Unsqueeze', [`past_recurrent.${HYBRID_LAYERS - 1}`, graph.ints([1])]);
  const sums = node('Add', [node('CumSum', [x, graph.ints([1])]), past]);
  const last = slice(sums, -1, 2 ** 31 - 1);
  node('Squeeze', [last, graph.ints([1])], {}, `present_recurrent.${HYBRID_LAYERS - 1}`);
  const local = node('Add', [x, before]);
  node('Add', [local, node('Mul', [sums, scalar(SUM)])], {}, 'mixed');
  return graph;
}

/** What its attention layers see of the rows that enter it: all of them at once, without any state. */
export function mixedRows(rows: Rows): Rows {
  const sum = new Float32Array(rows[0].length);
  return rows.map((row, i) =>
    row.map((value, d) => {
      sum[d] += value;
      return value + (i > 0 ? BEFORE * rows[i - 1][d] : 0) + SUM * sum[d];
    }),
  );
}
