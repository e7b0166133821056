/**
 * The fixture's graphs run one by one, as plainly as can be: the whole sequence again for each token, no
 * cache, no worker, the projector written out in JS. An independent route to what the runner computes.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parseModel, serializeModel } from '@foveate/onnx-graph';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import type { PixelValues } from '../src/bundle/preprocessing.js';

/** The tokens that stand for an image, and for the end of an answer. */
export const IMAGE = 3;
export const END = 2;

/** A row of numbers for each token. */
export type Rows = readonly Float32Array[];

/** What a test asks of the graphs. */
export interface PlainDecoding {
  /** Rows that enter the projector, one a visual token. */
  features(pixels: PixelValues): Promise<Rows>;
  /** Linear, GELU, linear. */
  project(features: Rows): Rows;
  /** Embeddings of token ids. */
  embed(ids: readonly number[]): Promise<Rows>;
  /** What the decoder reads: each image token (3) replaced by all rows of its image. */
  prompt(ids: readonly number[], images: readonly Rows[]): Promise<Rows>;
  /** Greedy answer to token ids in which each image token (3) stands for all rows of its image. */
  answer(ids: readonly number[], images: readonly Rows[], maxNewTokens: number): Promise<number[]>;
}

/** Opens the fixture's graphs. */
export async function openPlainDecoding(bundle: string): Promise<PlainDecoding> {
  const file = (name: string): string => path.join(bundle, 'onnx', `${name}.onnx`);
  const { vision, features, layers } = await openVision(file('vision_encoder'));
  const embedding = await InferenceSession.create(file('embed_tokens'));
  const decoder = await InferenceSession.create(file('decoder_model_merged'));

  const embed = async (ids: readonly number[]): Promise<Rows> => {
    if (ids.length === 0) return [];
    const { inputs_embeds: output } = await embedding.run({ input_ids: int64(ids) });
    return toRows(output);
  };
  const prompt = async (ids: readonly number[], images: readonly Rows[]): Promise<Rows> => {
    const waiting = [...images];
    const rows: Float32Array[] = [];
    for (const id of ids) rows.push(...(id === IMAGE ? waiting.shift()! : await embed([id])));
    return rows;
  };
  const logits = async (rows: Rows): Promise<Float32Array> => {
    const feeds: Record<string, Tensor> = {
      inputs_embeds: new Tensor('float32', Float32Array.from(rows.flatMap((row) => [...row])), [
        1,
        rows.length,
        rows[0].length,
      ]),
      attention_mask: int64(rows.map(() => 1)),
      position_ids: int64(rows.keys()),
      num_logits_to_keep: new Tensor('int64', [0n], []),
    };
    for (const input of decoder.inputMetadata) {
      if (!input.name.startsWith('past') || !input.isTensor) continue;
      feeds[input.name] = new Tensor(
        'float32',
        [],
        [1, input.shape[1] as number, 0, input.shape[3] as number],
      );
    }
    return toRows((await decoder.run(feeds)).logits).at(-1)!;
  };
  return {
    features: async ({ data, height, width }) =>
      toRows(
        (await vision.run({ pixel_values: new Tensor('float32', data, [1, 3, height, width]) }))[features],
      ),
    embed,
    prompt,
    project: (rows) => rows.map((row) => layers[1](layers[0](row).map(gelu))),
    answer: async (ids, images, maxNewTokens) => {
      const rows = [...(await prompt(ids, images))];
      const tokens: number[] = [];
      while (tokens.length < maxNewTokens) {
        const scores = await logits(rows);
        const token = scores.indexOf(Math.max(...scores));
        if (token === END) break;
        tokens.push(token);
        rows.push(...(await embed([token])));
      }
      return tokens;
    },
  };
}

/** The encoder with the projector's input as a further output, and the projector's two linear layers. */
async function openVision(
  file: string,
): Promise<{ vision: InferenceSession; features: string; layers: ((row: Float32Array) => Float32Array)[] }> {
  const model = parseModel(readFileSync(file));
  const { graph } = model;
  const matmuls = graph.node.filter(({ opType }) => opType === 'MatMul').slice(-2); // the projector's
  const [features] = matmuls[0].input;
  const [output] = graph.output;
  const type = structuredClone(output.type!);
  if (type.value.case === 'tensorType') delete type.value.value.shape;
  graph.output.push({ ...output, name: features, type });
  const weights = (name: string): Float32Array => {
    const { rawData } = graph.initializer.find((initializer) => initializer.name === name)!;
    return new Float32Array(Uint8Array.from(rawData).buffer);
  };
  const layers = matmuls.map(({ input, output: product }) => {
    const add = graph.node.find((node) => node.opType === 'Add' && node.input.includes(product[0]))!;
    const weight = weights(input[1]); // [in, out]
    const bias = weights(add.input.find((name) => name !== product[0])!);
    return (row: Float32Array) =>
      bias.map((start, o) => row.reduce((sum, value, i) => sum + value * weight[i * bias.length + o], start));
  });
  return { vision: await InferenceSession.create(serializeModel(model).bytes), features, layers };
}

function int64(values: Iterable<number>): Tensor {
  const data = BigInt64Array.from(Array.from(values, BigInt));
  return new Tensor('int64', data, [1, data.length]);
}

/** [1, N, D] */
function toRows({ data, dims }: Tensor): Rows {
  return Array.from({ length: dims[1] }, (_, i) =>
    (data as Float32Array).slice(i * dims[2], (i + 1) * dims[2]),
  );
}

/**
 * x * Phi(x), with erf(z) = 2 / sqrt(pi) * exp(-z^2) * sum of 2^n z^(2n+1) / (2n+1)!! (DLMF 7.6.2), whose
 * terms are all positive.
 */
function gelu(x: number): number {
  const z = Math.abs(x) / Math.SQRT2;
  let term = z;
  let sum = z;
  for (let n = 1; n < 200 && z < 6; n++) {
    term *= (2 * z * z) / (2 * n + 1);
    sum += term;
  }
  const erf = z < 6 ? (2 / Math.sqrt(Math.PI)) * Math.exp(-z * z) * sum : 1;
  return 0.5 * x * (1 + Math.sign(x) * erf);
}
