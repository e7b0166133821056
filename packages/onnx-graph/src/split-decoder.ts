/**
 * Cuts a decoder before one layer or several, so that what goes from one part into the next can be changed
 * outside.
 */
import { TensorProto_DataType as DataType } from 'onnx-buf';
import {
  appendUpperLayers,
  cacheNames,
  checkLayer,
  entryOf,
  lowerNodes,
  upperOutputs,
} from './decoder-parts.js';
import { locateDecoder, locateStretch, MASK, POSITIONS, type DecoderNodes, type Stretch } from './decoder.js';
import { OnnxArgumentError } from './errors.js';
import { GraphEditor, valueInfo } from './graph-editor.js';
import { GraphIndex, tensorShape } from './graph-index.js';
import { addedNodes, entering, hiddenShape, hiddenState, inputsOf, withNodes } from './graph-parts.js';
import type { OnnxModel } from './model.js';
import { positionsOf, promptAttention, type PromptRows } from './prompt-attention.js';

/** Where {@link splitDecoder} cuts, and what the part before the cut puts out beside the hidden state. */
export interface DecoderCut {
  /** K, from 1 to the number of layers - 1: the part before the cut ends with layer K-1. */
  readonly layer: number;
  /** Attention of layers of the part before the cut. Default none. */
  readonly signals?: readonly { readonly layer: number; readonly rows: PromptRows }[];
}

/** What {@link splitDecoder} returns; the batch is 1. */
export interface SplitDecoder {
  /** One more than there are cuts, from the embeddings to the logits. */
  readonly parts: readonly DecoderPart[];
}

/**
 * Some of a decoder's layers. The first part reads what the original does; later ones the hidden state of the
 * S' tokens that go on, `attention_mask` [1, P' + S'] with P' of them cached before, and their `position_ids`
 * [1, S'] (gaps allowed). Each reads and writes the caches of its own layers, and the last one the logits.
 */
export interface DecoderPart {
  readonly model: OnnxModel;
  /** Layers `first` up to but not including `end`. */
  readonly first: number;
  readonly end: number;
  /**
   * Input [1, S', D] (float32): the sum of residuals, not normalised; null of the first part, which reads
   * embeddings.
   */
  readonly input: string | null;
  /** Output [1, S, D] (float32), of the same kind; null of the last part. */
  readonly output: string | null;
  /**
   * Input: places [V] (int64, ascending) of the visual tokens among the S tokens that are run, empty to
   * decode; null of the last part.
   */
  readonly visualTokens: string | null;
  /** Outputs, one a signal: attention [1, S] (float32) to each token that is run, mean over heads. */
  readonly promptAttention: readonly string[];
}

/**
 * Cuts a decoder before each layer K of `cuts` into parts that share its weights: none is in two. One after
 * the other they are the original; between them any map may be applied to the hidden state. All go on from
 * their own caches, so that they decode as well.
 *
 * @param cuts - by ascending layer
 * @throws OnnxArgumentError where a layer is out of range, or not behind the one before it
 * @throws OnnxStructureError where the model is no decoder that can be cut before that layer, see findDecoder
 */
export function splitDecoder(model: OnnxModel, cuts: readonly DecoderCut[]): SplitDecoder {
  const parts: DecoderPart[] = [];
  let decoder = locateDecoder(model);
  let input: string | null = null;
  for (const [i, cut] of cuts.entries()) {
    checkCut(decoder, cut, `cuts[${i}]`);
    const residual = hiddenState(decoder.index, entryOf(decoder, cut.layer), cut.layer);
    const lower: DecoderPart = lowerPart(decoder, cut, residual, input);
    parts.push(lower);
    const upper = upperPart(decoder, cut.layer, residual);
    input = upper.input;
    decoder = locateStretch(new GraphIndex(upper.model), upper.stretch);
  }
  const { index, stretch, end } = decoder;
  const nothing = { output: null, visualTokens: null, promptAttention: [] };
  return { parts: [...parts, { model: index.model, first: stretch.first, end, input, ...nothing }] };
}

function checkCut(decoder: DecoderNodes, { layer, signals = [] }: DecoderCut, name: string): void {
  checkLayer(`${name}.layer`, layer, decoder);
  const { first } = decoder.stretch;
  for (const [i, signal] of signals.entries()) {
    if (Number.isInteger(signal.layer) && signal.layer >= first && signal.layer < layer) continue;
    const expected = `a layer of the part before the cut, ${first} to ${layer - 1}`;
    throw new OnnxArgumentError(`${name}.signals[${i}].layer`, signal.layer, expected);
  }
}

function lowerPart(
  decoder: DecoderNodes,
  { layer, signals = [] }: DecoderCut,
  residual: string,
  input: string | null,
): DecoderPart {
  const { index } = decoder;
  const editor = new GraphEditor(index);
  const output = editor.output('hidden', residual, hiddenShape(index, residual));
  const visualTokens = editor.name('visual_tokens');
  const positions = positionsOf(editor, decoder);
  const attention = signals.map((signal) =>
    editor.output(
      `prompt_attention_${signal.layer}_${signal.rows}`,
      promptAttention(editor, decoder, signal.layer, signal.rows, visualTokens, positions),
      ['batch_size', 'sequence_length'],
    ),
  );
  const { graph } = editor.build();
  const { added, read } = addedNodes(index.model, graph);
  const node = [...lowerNodes(decoder, layer, read), ...added];
  const upper = new Set(upperOutputs(decoder, layer));
  const lower = withNodes(index.model, {
    ...graph,
    node,
    input: [...inputsOf(index, node), valueInfo(visualTokens, DataType.INT64, ['visual_tokens'])],
    output: graph.output.filter((info) => !upper.has(info)),
  });
  const { first } = decoder.stretch;
  return { model: lower, first, end: layer, input, output, visualTokens, promptAttention: attention };
}

/** As the decoder has them; those that it has not are counted. */
function positionShape(index: GraphIndex): (string | number)[] {
  const shape = tensorShape(index.valueInfo(POSITIONS)) ?? [];
  const tokens = ['batch_size', 'sequence_length'];
  return shape.length === 3 ? [shape[0] ?? 'position_axes', ...tokens] : tokens;
}

/** The layers from one on, as a decoder of their own. */
function upperPart(
  decoder: DecoderNodes,
  layer: number,
  residual: string,
): { model: OnnxModel; stretch: Stretch; input: string } {
  const { index } = decoder;
  const editor = new GraphEditor(index);
  const input = editor.name('hidden');
  const type = index.elementType(residual) ?? DataType.FLOAT;
  const cast = editor.add('Cast', [input], { to: type });
  const inputs = {
    hidden: entering(editor, entryOf(decoder, layer), residual, cast),
    mask: MASK,
    positions: POSITIONS,
  };
  appendUpperLayers(editor, decoder, layer, inputs);
  const { graph } = editor.build();
  const { added } = addedNodes(index.model, graph);
  const given = new Set([MASK, POSITIONS, ...cacheNames(0, layer)]);
  const output = upperOutputs(decoder, layer);
  const model = withNodes(index.model, {
    ...graph,
    node: added,
    input: [
      valueInfo(input, DataType.FLOAT, hiddenShape(index, residual)),
      valueInfo(MASK, index.elementType(MASK) ?? DataType.INT64, ['batch_size', 'total_sequence_length']),
      valueInfo(POSITIONS, DataType.INT64, positionShape(index)),
      ...inputsOf(index, added).filter(({ name }) => !given.has(name)),
    ],
    output,
  });
  return { model, input, stretch: { ...inputs, first: layer, earlier: new Set() } };
}
