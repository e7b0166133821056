/**
 * Cuts a vision encoder in two before a layer, so that what goes from one part into the other can be changed
 * outside.
 */
import { TensorProto_DataType as DataType } from 'onnx-buf';
import {
  appendLaterLayers,
  encoderEntry,
  layerMiddle,
  outputsAround,
  withFreeShape,
} from './encoder-parts.js';
import { OnnxStructureError } from './errors.js';
import { GraphEditor, valueInfo } from './graph-editor.js';
import { addedNodes, entering, hiddenShape, hiddenState, inputsOf, withNodes } from './graph-parts.js';
import type { OnnxModel } from './model.js';
import { locateEncoder, type FindOptions, type LocatedEncoder } from './vision-encoder.js';

/** What {@link splitEncoder} returns. */
export interface SplitEncoderLayers {
  /** Pixels -> `hidden`, and every output (signals) that needs no later layer. */
  readonly lower: OnnxModel;
  /**
   * `hidden`, of as many patches as are left -> the other outputs. An encoder like any other: its layers
   * count from 0, and it may be cut again.
   */
  readonly upper: OnnxModel;
  /**
   * The lower part's output and the upper part's input [B, S, D], prefix tokens (CLS) first; float32: the sum
   * of residuals, not normalised.
   */
  readonly hidden: string;
}

/**
 * Cuts an encoder before a layer into two that share its weights. One after the other they are the original;
 * between them any map may be applied to the patches.
 *
 * @param options - which output has the features, see findVisionEncoder
 * @param layer - from 1 to the layer that makes the features
 * @param where - before that layer; or within it, between its attention and its MLP, then from 0: the upper
 * part's layers are those behind it
 * @throws OnnxArgumentError where the layer is out of range
 * @throws OnnxStructureError where the encoder cannot be cut there
 */
export function splitEncoder(
  model: OnnxModel,
  options: FindOptions,
  layer: number,
  where: 'before' | 'within' = 'before',
): SplitEncoderLayers {
  const located = locateEncoder(model, options);
  const entry =
    where === 'before' ? encoderEntry(located, layer, 'layer') : layerMiddle(located, layer, 'layer');
  const residual = hiddenState(located.index, entry, layer);
  const lower = lowerPart(located, entry, residual);
  return { ...lower, upper: upperPart(located, layer, entry, residual, lower.hidden) };
}

function lowerPart(
  { index }: LocatedEncoder,
  entry: readonly string[],
  residual: string,
): { lower: OnnxModel; hidden: string } {
  const editor = new GraphEditor(index);
  const hidden = editor.output('hidden', residual, hiddenShape(index, residual));
  const { graph } = editor.build();
  const { added, read } = addedNodes(index.model, graph);
  const { earlier, later } = outputsAround(index, entry);
  const node = [...index.ancestors([...earlier.map(({ name }) => name), ...read]), ...added];
  const isLater = new Set(later);
  const output = graph.output.filter((info) => !isLater.has(info));
  return { lower: withNodes(index.model, { ...graph, node, input: inputsOf(index, node), output }), hidden };
}

function upperPart(
  located: LocatedEncoder,
  layer: number,
  entry: readonly string[],
  residual: string,
  hidden: string,
): OnnxModel {
  const { index, encoder } = located;
  const editor = new GraphEditor(index);
  const cast = editor.add('Cast', [hidden], { to: index.elementType(residual) ?? DataType.FLOAT });
  appendLaterLayers(editor, located, layer, entry, entering(editor, entry, residual, cast));
  const { graph } = editor.build();
  const { added, read } = addedNodes(index.model, graph);
  const constants = index.ancestors(read.filter((name) => name !== hidden));
  const node = [...constants, ...added];
  const given = inputsOf(index, constants);
  const pixels = given.find(({ name }) => name === encoder.input);
  if (pixels) {
    throw new OnnxStructureError(
      index.model.file,
      'a cut that only the hidden state goes through',
      `later layers that also read the input "${pixels.name}"`,
      'Export the model so that each layer depends on the one before alone.',
    );
  }
  return withNodes(index.model, {
    ...graph,
    node,
    input: [valueInfo(hidden, DataType.FLOAT, hiddenShape(index, residual)), ...given],
    output: outputsAround(index, entry).later.map((info) => withFreeShape(info, DataType.FLOAT)),
  });
}
