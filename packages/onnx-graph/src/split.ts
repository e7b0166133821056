/** Cuts graphs in two. */
import { OnnxStructureError } from './errors.js';
import { copyGraph, valueInfo } from './graph-editor.js';
import { GraphIndex, allInputs, tensorShape } from './graph-index.js';
import { withGraph, type OnnxModel } from './model.js';
import type { VisionEncoder } from './vision-encoder.js';
import type { ValueInfoProto } from 'onnx-buf';

/** What {@link splitAtFeatures} returns. */
export interface SplitEncoder {
  /** Pixels -> `features` [B, N, D], in place of the image features; all other outputs (signals) stay. */
  readonly encoder: OnnxModel;
  /** `features` [B, M, D], any M -> the image features. */
  readonly projector: OnnxModel;
  /** The output of one and input of the other. */
  readonly features: string;
}

/**
 * Cuts the model between the features and the projector. Both parts read their weights where the original has them.
 *
 * @param model - the model that `encoder` was found in, or the one that addSignals made of it
 * @throws OnnxStructureError where there is no projector, or it reads more than the features
 */
export function splitAtFeatures(model: OnnxModel, encoder: VisionEncoder): SplitEncoder {
  const { features, output } = encoder;
  const index = new GraphIndex(model);
  const result = model.graph.output.find(({ name }) => name === output);
  const elementType = index.elementType(features);
  if (encoder.projector === undefined || result === undefined || elementType === undefined) {
    throw new OnnxStructureError(
      model.file,
      'a projector behind the features',
      `"${output}" ${encoder.projector === undefined ? 'being the features themselves' : 'of another graph'}`,
      'Apply the plan to the output itself.',
    );
  }
  const cut = valueInfo(features, elementType, [
    'batch',
    'tokens',
    index.lastDimension(features) ?? 'channels',
  ]);
  const others = model.graph.output.filter(({ name }) => name !== output && name !== features);
  return {
    encoder: extract(index, [], [cut, ...others]),
    projector: extract(index, [cut], [withFreeShape(result, elementType)]),
    features,
  };
}

/**
 * The part of a graph between `given` tensors and `outputs`, with the initializers that it needs.
 *
 * @throws OnnxStructureError where, with tensors given, it needs an input of the whole graph all the same
 */
function extract(
  index: GraphIndex,
  given: readonly ValueInfoProto[],
  outputs: readonly ValueInfoProto[],
): OnnxModel {
  const { model } = index;
  const names = new Set(given.map(({ name }) => name));
  const wanted = outputs.map(({ name }) => name);
  const node = index.ancestors(wanted, names);
  const read = new Set([...node.flatMap(allInputs), ...wanted]);
  const inputs = model.graph.input.filter(({ name }) => read.has(name));
  const outside = inputs.find(({ name }) => given.length > 0 && index.initializer(name) === undefined);
  if (outside) {
    throw new OnnxStructureError(
      model.file,
      `a cut at ${[...names].join(', ')}`,
      `that what is behind it also reads the input "${outside.name}"`,
      'Export the model so that the projector depends on the features alone.',
    );
  }
  // A statement about what is computed from a given tensor holds no longer: its number of tokens may differ.
  const changed = index.dependents(names);
  const made = new Set(node.flatMap(({ output }) => output));
  return withGraph(
    model,
    copyGraph(model.graph, {
      node,
      initializer: model.graph.initializer.filter(({ name }) => read.has(name)),
      input: [...inputs, ...given],
      output: [...outputs],
      valueInfo: model.graph.valueInfo.filter(
        ({ name }) => made.has(name) && !changed.has(name) && !wanted.includes(name),
      ),
    }),
  );
}

/** An output whose axes but the last are free. */
function withFreeShape(info: ValueInfoProto, elementType: number): ValueInfoProto {
  const type = info.type?.value;
  const shape = tensorShape(info) ?? ['', '', 'channels'];
  const free = shape.map((size, i) => (i < shape.length - 1 || size === null ? `${info.name}_${i}` : size));
  return valueInfo(info.name, type?.case === 'tensorType' ? type.value.elemType : elementType, free);
}
