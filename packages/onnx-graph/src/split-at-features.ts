/** Cuts a vision encoder in two at its features, before the projector. */
import { create } from '@bufbuild/protobuf';
import { NodeProtoSchema, TensorProto_DataType as DataType, type ValueInfoProto } from 'onnx-buf';
import { OnnxStructureError } from './errors.js';
import { copyGraph, GraphEditor, intAttribute, valueInfo } from './graph-editor.js';
import { withFreeShape } from './encoder-parts.js';
import { GraphIndex, allInputs } from './graph-index.js';
import { withGraph, type OnnxModel } from './model.js';
import type { VisionEncoder } from './vision-encoder.js';

/** What {@link splitAtFeatures} returns. */
export interface SplitEncoder {
  /**
   * Pixels -> `features` [B, N, D] in float32, in place of the image features; all other outputs (signals)
   * stay.
   */
  readonly encoder: OnnxModel;
  /** `features` [B, M, D] in float32, any M -> the image features. */
  readonly projector: OnnxModel;
  /** Name of the one's output and the other's input. */
  readonly features: string;
}

/**
 * Cuts the model between the features and the projector. Both parts read their weights where the original has
 * them.
 *
 * @param model - the model that `encoder` was found in, or the one that addSignals made of it
 * @throws OnnxStructureError where there is no projector, or it reads more than the features
 */
export function splitAtFeatures(model: OnnxModel, encoder: VisionEncoder): SplitEncoder {
  const index = new GraphIndex(model);
  const result = model.graph.output.find(({ name }) => name === encoder.output);
  if (encoder.projector === undefined || result === undefined) {
    throw new OnnxStructureError(
      model.file,
      'a projector behind the features',
      `"${encoder.output}" ${encoder.projector === undefined ? 'being the features themselves' : 'in another graph'}`,
      'Apply the plan to the output itself.',
    );
  }
  const editor = new GraphEditor(index);
  const shape = ['batch', 'tokens', index.lastDimension(encoder.features) ?? 'channels'];
  const features = editor.output('features', encoder.features, shape);
  const whole = new GraphIndex(editor.build());
  const outputs = whole.model.graph.output.filter(({ name }) => name !== encoder.output);
  return {
    encoder: extract(whole, new Set(), outputs),
    projector: projectorPart(index, encoder.features, valueInfo(features, DataType.FLOAT, shape), result),
    features,
  };
}

/** What is behind the features, fed by the float32 input `given`. */
function projectorPart(
  index: GraphIndex,
  features: string,
  given: ValueInfoProto,
  result: ValueInfoProto,
): OnnxModel {
  const type = index.elementType(features) ?? index.elementType(result.name) ?? DataType.FLOAT;
  const part = extract(index, new Set([features]), [withFreeShape(result, type)]);
  const cast = create(NodeProtoSchema, {
    name: `${given.name}/Cast`,
    opType: 'Cast',
    input: [given.name],
    output: [features],
    attribute: [intAttribute('to', type)],
  });
  const graph = copyGraph(part.graph, {
    node: [cast, ...part.graph.node],
    input: [given, ...part.graph.input],
  });
  return withGraph(part, graph);
}

/**
 * The part of a graph between `given` tensors and `outputs`, with the initializers that it needs; whoever
 * asks for it adds what makes the given ones.
 *
 * @throws OnnxStructureError where, with tensors given, it needs an input of the whole graph all the same
 */
function extract(
  index: GraphIndex,
  given: ReadonlySet<string>,
  outputs: readonly ValueInfoProto[],
): OnnxModel {
  const { model } = index;
  const wanted = outputs.map(({ name }) => name);
  const node = index.ancestors(wanted, given);
  const read = new Set([...node.flatMap(allInputs), ...wanted]);
  const input = model.graph.input.filter(({ name }) => read.has(name));
  const outside = given.size > 0 && input.find(({ name }) => index.initializer(name) === undefined);
  if (outside) {
    throw new OnnxStructureError(
      model.file,
      `a cut at ${[...given].join(', ')}`,
      `that what is behind it also reads the input "${outside.name}"`,
      'Export the model so that the projector depends on the features alone.',
    );
  }
  // A statement about what is computed from a given tensor holds no longer: its number of tokens may differ.
  const changed = index.dependents(given);
  const made = new Set(node.flatMap(({ output }) => output));
  return withGraph(
    model,
    copyGraph(model.graph, {
      node,
      initializer: model.graph.initializer.filter(({ name }) => read.has(name)),
      input,
      output: [...outputs],
      valueInfo: model.graph.valueInfo.filter(({ name }) => made.has(name) && !changed.has(name)),
    }),
  );
}
