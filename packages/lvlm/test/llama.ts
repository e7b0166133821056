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

/**
 * A reduction before layer `layer` of the visual tokens that are left; `places` are where they stand in the
 * prompt.
 */
export interface Reduction {
  readonly layer: number;
  readonly places: readonly number[];
  readonly plan: ReductionPlan;
}

/** What {@link forward} gives. */
export interface Forward {
  /** Behind the last token. [vocabulary] */
  readonly logits: Float64Array;
  /** Of each layer: attention, mean over heads, [tokens of the layer][tokens of the layer]. */
  readonly attention: readonly (readonly Float64Array[])[];
  /** Of each layer: where its tokens stand in the prompt. */
  readonly positions: readonly (readonly number[])[];
}

interface Token {
  readonly position: number;
  readonly row: Float64Array;
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
  let tokens: Token[] = embeddings.map((row, place) => ({
    position: attending?.positions[place] ?? place,
    row: Float64Array.from(row),
  }));
  const attention: Float64Array[][] = [];
  const positions: number[][] = [];
  for (const [index, layer] of llama.layers.entries()) {
    for (const reduction of reductions) if (reduction.layer === index) tokens = reduce(tokens, reduction);
    const normal = tokens.map(({ row }) => normalize(row, layer.inputNorm, llama.epsilon));
    const bias = (query: number, key: number): number => attending?.bias(index, query, key) ?? 0;
    const attended = attend(llama, layer, tokens, normal, bias);
    attention.push(attended.map(({ mean }) => mean));
    positions.push(tokens.map(({ position }) => position));
    tokens = tokens.map(({ position, row }, t) => {
      const middle = add(row, multiply(attended[t].result, layer.o));
      const h = normalize(middle, layer.outputNorm, llama.epsilon);
      const up = multiply(h, layer.up);
      const gated = multiply(h, layer.gate).map((value, i) => (value / (1 + Math.exp(-value))) * up[i]);
      return { position, row: add(middle, multiply(gated, layer.down)) };
    });
  }
  const last = tokens[tokens.length - 1].row;
  const logits = multiply(normalize(last, llama.norm, llama.epsilon), llama.head);
  return { logits, attention, positions };
}

/** Each output of the plan stands where its anchor stood. */
function reduce(tokens: readonly Token[], { places, plan }: Reduction): Token[] {
  const visual = new Set(places);
  const at = new Map(tokens.map(({ position, row }) => [position, row]));
  const outputs = Array.from({ length: plan.outputLength }, (_, m): Token => {
    const sources = [...plan.sources.subarray(plan.offsets[m], plan.offsets[m + 1])];
    const terms = sources.map((source, e) => {
      const weight = plan.weights?.[plan.offsets[m] + e] ?? 1;
      return at.get(places[source])!.map((value) => weight * value);
    });
    const row = terms[0].map((_value, d) => {
      const values = terms.map((term) => term[d]);
      return plan.combine === 'max' ? Math.max(...values) : values.reduce((sum, value) => sum + value, 0);
    });
    return { position: places[plan.anchors[m]], row };
  });
  return [...tokens.filter(({ position }) => !visual.has(position)), ...outputs].sort(
    (a, b) => a.position - b.position,
  );
}

function attend(
  { heads, kvHeads, headDim }: Llama,
  layer: LlamaLayer,
  tokens: readonly Token[],
  normal: readonly Float64Array[],
  bias: (query: number, key: number) => number,
): { result: Float64Array; mean: Float64Array }[] {
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
    return { result, mean };
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

function normalize(x: Float64Array, scale: Float32Array, epsilon: number): Float64Array {
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
