/**
 * A Llama in plain JS and float64, without any cache: what the decoder's graphs must compute, by another
 * route.
 */
import type { ReductionPlan } from '@foveate/core';
import { parseModel } from '@foveate/onnx-graph';
import { readFileSync } from 'node:fs';

/** A matrix that a row is multiplied with: [inputs, outputs], row-major. */
export interface Matrix {
  readonly inputs: number;
  readonly outputs: number;
  readonly values: Float32Array<ArrayBuffer>;
}

/** One layer, its matrices in the order in which they are used. */
export interface LlamaLayer {
  readonly q: Matrix;
  readonly k: Matrix;
  readonly v: Matrix;
  readonly o: Matrix;
  readonly gate: Matrix;
  readonly up: Matrix;
  readonly down: Matrix;
  readonly inputNorm: Float32Array<ArrayBuffer>;
  readonly outputNorm: Float32Array<ArrayBuffer>;
}

/** Sizes and weights. */
export interface Llama {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly epsilon: number;
  readonly layers: readonly LlamaLayer[];
  readonly norm: Float32Array<ArrayBuffer>;
  readonly head: Matrix;
}

/** A reduction of the visual tokens before a layer. */
export interface Reduction {
  readonly layer: number;
  /** Which of the tokens there are visual, ascending. */
  readonly visual: readonly number[];
  /** The image of each of them. */
  readonly images: readonly number[];
  readonly plan: ReductionPlan;
  /** Whether all tokens are counted anew, an image's outputs in the plan's order. */
  readonly renumbered?: boolean;
}

/** What {@link forward} gives. */
export interface Forward {
  /** Behind the last token. [vocabulary] */
  readonly logits: Float64Array;
  /** Of each layer: attention, mean over heads, [tokens of the layer][tokens of the layer]. */
  readonly attention: readonly (readonly Float64Array[])[];
  readonly layers: readonly LayerTrace[];
}

/** What went through a layer; all of it one a token. */
interface LayerTrace {
  /** The number that each had at first; of what a plan put out that of its anchor. */
  readonly numbers: readonly number[];
  /** Of the layer's last reduction, or of one before, what the plan put out. */
  readonly isOutput: readonly boolean[];
  readonly read: readonly Float64Array[];
  readonly written: readonly Float64Array[];
  /** Sum of the absolute rotated keys, heads together. */
  readonly keyMagnitudes: readonly number[];
}

interface Token {
  readonly number: number;
  readonly position: number;
  readonly row: Float64Array;
  readonly isOutput: boolean;
}

/** How tokens attend where it is not plainly in their order. */
export interface Attending {
  /** Of each of the embeddings. */
  readonly positions: readonly number[];
  /** Added to the score of a query for a key of a layer, by their numbers. */
  readonly bias: (layer: number, query: number, key: number) => number;
}

/** Runs all tokens [S][D] through all layers; `reductions` say what later ones see of them. */
export function forward(
  llama: Llama,
  embeddings: readonly ArrayLike<number>[],
  reductions: readonly Reduction[] = [],
  attending?: Attending,
): Forward {
  let tokens = embeddings.map((row, number): Token => {
    const position = attending?.positions[number] ?? number;
    return { number, position, row: Float64Array.from(row), isOutput: false };
  });
  const attention: Float64Array[][] = [];
  const layers: LayerTrace[] = [];
  for (const [index, layer] of llama.layers.entries()) {
    for (const reduction of reductions) if (reduction.layer === index) tokens = reduce(tokens, reduction);
    const normal = tokens.map(({ row }) => normalize(row, layer.inputNorm, llama.epsilon));
    const bias = (query: number, key: number): number => attending?.bias(index, query, key) ?? 0;
    const attended = attend(llama, layer, tokens, normal, bias);
    attention.push(attended.map(({ mean }) => mean));
    const read = tokens;
    tokens = tokens.map(({ row, ...token }, t) => {
      const middle = add(row, multiply(attended[t].result, layer.o));
      const h = normalize(middle, layer.outputNorm, llama.epsilon);
      const up = multiply(h, layer.up);
      const gated = multiply(h, layer.gate).map((value, i) => (value / (1 + Math.exp(-value))) * up[i]);
      return { ...token, row: add(middle, multiply(gated, layer.down)) };
    });
    layers.push({
      numbers: read.map(({ number }) => number),
      isOutput: read.map(({ isOutput }) => isOutput),
      read: read.map(({ row }) => row),
      written: tokens.map(({ row }) => row),
      keyMagnitudes: attended.map(({ key }) => key.reduce((sum, value) => sum + Math.abs(value), 0)),
    });
  }
  const last = tokens[tokens.length - 1].row;
  const logits = multiply(normalize(last, llama.norm, llama.epsilon), llama.head);
  return { logits, attention, layers };
}

/**
 * Each output of the plan stands where its anchor stood; where tokens are renumbered, the outputs of an image
 * follow each other where its first visual token stood.
 */
function reduce(tokens: readonly Token[], { visual, images, plan, renumbered }: Reduction): Token[] {
  const outputs = Array.from({ length: plan.outputLength }, (_, m): Token => {
    const row = combined(plan, m, (source) => tokens[visual[source]].row);
    return { ...tokens[visual[plan.anchors[m]]], row, isOutput: true };
  });
  const anchored = (isThere: (anchor: number) => boolean): Token[] =>
    outputs.filter((_, m) => isThere(plan.anchors[m]));
  const left = tokens.flatMap((token, t): Token[] => {
    const v = visual.indexOf(t);
    if (v < 0) return [{ ...token, isOutput: false }];
    if (!renumbered) return anchored((anchor) => anchor === v);
    return images.indexOf(images[v]) === v ? anchored((anchor) => images[anchor] === images[v]) : [];
  });
  return renumbered ? left.map((token, position) => ({ ...token, position })) : left;
}

/** One output of a plan. */
function combined(plan: ReductionPlan, m: number, rowOf: (source: number) => Float64Array): Float64Array {
  const sources = [...plan.sources.subarray(plan.offsets[m], plan.offsets[m + 1])];
  const terms = sources.map((source, e) => {
    const weight = plan.weights?.[plan.offsets[m] + e] ?? 1;
    return rowOf(source).map((value) => weight * value);
  });
  return terms[0].map((_value, d) => {
    const values = terms.map((term) => term[d]);
    return plan.combine === 'max' ? Math.max(...values) : values.reduce((sum, value) => sum + value, 0);
  });
}

function attend(
  { heads, kvHeads, headDim }: Llama,
  layer: LlamaLayer,
  tokens: readonly Token[],
  normal: readonly Float64Array[],
  bias: (query: number, key: number) => number,
): { result: Float64Array; mean: Float64Array; key: Float64Array }[] {
  const turned = (matrix: Matrix): Float64Array[] =>
    normal.map((row, t) => rotate(multiply(row, matrix), headDim, tokens[t].position));
  const [queries, keys] = [turned(layer.q), turned(layer.k)];
  const values = normal.map((row) => multiply(row, layer.v));
  return queries.map((query, t) => {
    const result = new Float64Array(heads * headDim);
    const mean = new Float64Array(tokens.length);
    for (let head = 0; head < heads; head++) {
      const from = head * headDim;
      const shared = Math.floor((head * kvHeads) / heads) * headDim;
      const scores = new Float64Array(t + 1);
      for (let j = 0; j <= t; j++) {
        for (let d = 0; d < headDim; d++) scores[j] += query[from + d] * keys[j][shared + d];
        scores[j] = scores[j] / Math.sqrt(headDim) + bias(t, j);
      }
      const largest = scores.reduce((a, b) => Math.max(a, b));
      const exponentials = scores.map((score) => Math.exp(score - largest));
      const total = exponentials.reduce((a, b) => a + b);
      for (let j = 0; j <= t; j++) {
        const share = exponentials[j] / total;
        mean[j] += share / heads;
        for (let d = 0; d < headDim; d++) result[from + d] += share * values[j][shared + d];
      }
    }
    return { result, mean, key: keys[t] };
  });
}

/** Rotary positions (RoFormer), base 10000, the halves of each head turned against each other. */
function rotate(x: Float64Array, headDim: number, position: number): Float64Array {
  const half = headDim / 2;
  return x.map((value, i) => {
    const d = i % headDim;
    const angle = position * 10000 ** (-(2 * (d % half)) / headDim);
    const other = d < half ? -x[i + half] : x[i - half];
    return value * Math.cos(angle) + other * Math.sin(angle);
  });
}

/** RMSNorm. */
export function normalize(x: Float64Array, scale: Float32Array, epsilon: number): Float64Array {
  const square = x.reduce((sum, value) => sum + value * value, 0) / x.length;
  return x.map((value, d) => (value * scale[d]) / Math.sqrt(square + epsilon));
}

function multiply(x: Float64Array, { inputs, outputs, values }: Matrix): Float64Array {
  const product = new Float64Array(outputs);
  for (let i = 0; i < inputs; i++) {
    const factor = x[i];
    const start = i * outputs;
    for (let o = 0; o < outputs; o++) product[o] += factor * values[start + o];
  }
  return product;
}

function add(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((value, d) => value + b[d]);
}

/** The weights in a decoder that torch.onnx wrote out, in the order in which its nodes read them. */
export function readLlama(
  file: string,
  sizes: Pick<Llama, 'heads' | 'kvHeads' | 'headDim' | 'epsilon'>,
): Llama {
  const { graph } = parseModel(readFileSync(file));
  const weights = new Map(
    graph.initializer.map(({ name, dims, rawData }) => [
      name,
      { dims: dims.map(Number), values: () => new Float32Array(Uint8Array.from(rawData).buffer) },
    ]),
  );
  const constants = (
    opType: string,
    rank: number,
  ): { dims: number[]; values: () => Float32Array<ArrayBuffer> }[] =>
    graph.node
      .filter((node) => node.opType === opType)
      .flatMap(({ input }) => input.flatMap((name) => weights.get(name) ?? []))
      .filter(({ dims }) => dims.length === rank && dims.every((size) => size > 1));
  const matrices = constants('MatMul', 2).map(({ dims: [inputs, outputs], values }): Matrix => ({
    inputs,
    outputs,
    values: values(),
  }));
  const scales = constants('Mul', 1).map(({ values }) => values());
  const layers = Array.from({ length: (scales.length - 1) / 2 }, (_, i): LlamaLayer => {
    const [q, k, v, o, gate, up, down] = matrices.slice(7 * i);
    return { q, k, v, o, gate, up, down, inputNorm: scales[2 * i], outputNorm: scales[2 * i + 1] };
  });
  return { ...sizes, layers, norm: scales[scales.length - 1], head: matrices[matrices.length - 1] };
}
