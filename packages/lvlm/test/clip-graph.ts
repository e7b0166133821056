/**
 * Writes a CLIP tower with a projector as the ONNX file that a bundle calls vision_encoder.onnx, with random
 * weights: encoders of any size without Python.
 */
import { create, toBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema, TensorProto_DataType as DataType } from 'onnx-buf';
import { GraphWriter, info } from './llama-graph.js';

/** Sizes of a random CLIP. */
export interface ClipSizes {
  /** Layers up to the one that makes the features. */
  readonly layers: number;
  readonly width: number;
  readonly heads: number;
  /** Channels inside the MLP. */
  readonly inner: number;
  /** Pixels of a side of the picture, and of a patch. */
  readonly imageSize: number;
  readonly patchSize: number;
  /** Channels of the language model's embeddings. */
  readonly output: number;
}

/**
 * The bytes of the ONNX file: attention written out, the class token dropped before a projector of one
 * matrix.
 */
export function clipGraph({
  layers,
  width,
  heads,
  inner,
  imageSize,
  patchSize,
  output,
}: ClipSizes): Uint8Array {
  const graph = new GraphWriter();
  let state = 1;
  const random = (dims: readonly number[], spread: number): string =>
    graph.floats(
      Float32Array.from({ length: dims.reduce((a, b) => a * b) }, () => {
        state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
        return spread * (state / 2 ** 31 - 1);
      }),
      dims,
    );
  const linear = (x: string, from: number, to: number): string => {
    const product = graph.node('MatMul', [x, random([from, to], Math.sqrt(3 / from))]);
    return graph.node('Add', [product, random([to], 0.1)]);
  };
  const norm = (x: string): string =>
    graph.node('LayerNormalization', [x, random([width], 1), random([width], 0.1)], { axis: -1 });
  const split = (x: string, perm: readonly number[]): string =>
    graph.node('Transpose', [graph.node('Reshape', [x, graph.ints([0, 0, heads, width / heads])])], { perm });

  const side = imageSize / patchSize;
  const kernel = random([width, 3, patchSize, patchSize], Math.sqrt(1 / (3 * patchSize ** 2)));
  const sides = [patchSize, patchSize];
  const patches = graph.node('Conv', ['pixel_values', kernel], { kernel_shape: sides, strides: sides });
  const flat = graph.node('Reshape', [patches, graph.ints([0, width, side ** 2])]);
  const tokens = graph.node('Transpose', [flat], { perm: [0, 2, 1] });
  const whole = graph.node('Concat', [random([1, 1, width], 1), tokens], { axis: 1 });
  let hidden = norm(graph.node('Add', [whole, random([1, side ** 2 + 1, width], 1)]));
  for (let layer = 0; layer < layers; layer++) {
    const h = norm(hidden);
    const [query, keys, values] = [
      split(linear(h, width, width), [0, 2, 1, 3]),
      split(linear(h, width, width), [0, 2, 3, 1]),
      split(linear(h, width, width), [0, 2, 1, 3]),
    ];
    const scale = graph.floats(Float32Array.of((width / heads) ** -0.5), []);
    const shares = graph.node('Softmax', [graph.node('Mul', [graph.node('MatMul', [query, keys]), scale])], {
      axis: -1,
    });
    const attended = graph.node('Transpose', [graph.node('MatMul', [shares, values])], {
      perm: [0, 2, 1, 3],
    });
    const joined = graph.node('Reshape', [attended, graph.ints([0, 0, width])]);
    const middle = graph.node('Add', [hidden, linear(joined, width, width)]);
    const up = linear(norm(middle), width, inner);
    const active = graph.node('Mul', [up, graph.node('Sigmoid', [up])]);
    hidden = graph.node('Add', [middle, linear(active, inner, width)]);
  }
  const ends = [graph.ints([1]), graph.ints([2 ** 31 - 1]), graph.ints([1])];
  const features = graph.node('Slice', [hidden, ...ends]);
  graph.node('MatMul', [features, random([width, output], Math.sqrt(3 / width))], {}, 'image_features');
  return toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, {
      irVersion: 10n,
      opsetImport: [{ version: 17n }],
      graph: {
        name: 'encoder',
        node: graph.nodes,
        initializer: graph.constants,
        input: [info('pixel_values', DataType.FLOAT, ['batch_size', 3, imageSize, imageSize])],
        output: [info('image_features', DataType.FLOAT, ['batch_size', side ** 2, output])],
      },
    }),
  );
}
