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
import { decoderSignals } from './decoder-signals/index.js';
import type { DecoderSignal, DecoderSignalRequest } from './decoder-signals/decoder-signal.js';
import { DecoderTap, type TokenTensors } from './decoder-signals/decoder-tap.js';
import { locateDecoder, locateStretch, MASK, POSITIONS, type DecoderNodes, type Stretch } from './decoder.js';
import { OnnxArgumentError } from './errors.js';
import { GraphEditor, valueInfo } from './graph-editor.js';
import { GraphIndex, tensorShape } from './graph-index.js';
import { addedNodes, entering, hiddenShape, hiddenState, inputsOf, withNodes } from './graph-parts.js';
import type { OnnxModel } from './model.js';
import { positionsOf } from './prompt-attention.js';
import { checkParameters } from './signals/check-parameters.js';

/** Where {@link splitDecoder} cuts, and what the part before the cut puts out beside the hidden state. */
export interface DecoderCut {
  /** K, from 1 to the number of layers - 1: the part before the cut ends with layer K-1. */
  readonly layer: number;
  /** Of layers of the part before the cut, or of layer K where it gives that too. Default none. */
  readonly signals?: readonly DecoderSignalRequest[];
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
  /** Input: how many tokens the question has [1] (int64), the last of the S; null of the last part. */
  readonly questionTokens: string | null;
  /**
   * Outputs (float32), one a signal, of the shape that its provider says. What they give of layer K, which is
   * behind the cut, holds of prompts only: nothing cached is looked at.
   */
  readonly signals: readonly string[];
}

/**
 * Cuts a decoder before each layer K of `cuts` into parts that share its weights: none is in two, but for the
 * norm before the head and the matrices of queries and keys of layer K, where signals need them. One after
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
  const nothing = { output: null, visualTokens: null, questionTokens: null, signals: [] };
  return { parts: [...parts, { model: index.model, first: stretch.first, end, input, ...nothing }] };
}

function checkCut(decoder: DecoderNodes, { layer, signals = [] }: DecoderCut, name: string): void {
  checkLayer(`${name}.layer`, layer, decoder);
  const { first } = decoder.stretch;
  for (const [i, request] of signals.entries()) {
    const { ofNextLayer } = knownSignal(request, `${name}.signals[${i}]`);
    const end = ofNextLayer === true ? layer + 1 : layer;
    if (Number.isInteger(request.layer) && request.layer >= first && request.layer < end) continue;
    const expected = `a layer of the part before the cut, ${first} to ${layer - 1}`;
    throw new OnnxArgumentError(
      `${name}.signals[${i}].layer`,
      request.layer,
      ofNextLayer === true ? `${expected}, or the one behind it, ${layer}` : expected,
    );
  }
}

function knownSignal({ name }: DecoderSignalRequest, argument: string): DecoderSignal {
  const signal = decoderSignals.get(name);
  if (signal) return signal;
  throw new OnnxArgumentError(`${argument}.name`, name, `one of ${[...decoderSignals.keys()].join(', ')}`);
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
  const [visualTokens, questionTokens] = ['visual_tokens', 'question_tokens'].map((name) =>
    editor.name(name),
  );
  const tokens = { visual: visualTokens, question: questionTokens, positions: positionsOf(editor, decoder) };
  const outputs = signals.map((request, i) =>
    addSignal(editor, decoder, request, request.layer === layer, tokens, `signals[${i}]`),
  );
  const { graph } = editor.build();
  const { added, read } = addedNodes(index.model, graph);
  const node = [...lowerNodes(decoder, layer, read), ...added];
  const upper = new Set(upperOutputs(decoder, layer));
  const lower = withNodes(index.model, {
    ...graph,
    node,
    input: [
      ...inputsOf(index, node),
      valueInfo(visualTokens, DataType.INT64, ['visual_tokens']),
      valueInfo(questionTokens, DataType.INT64, [1]),
    ],
    output: graph.output.filter((info) => !upper.has(info)),
  });
  const { first } = decoder.stretch;
  return { model: lower, first, end: layer, input, output, visualTokens, questionTokens, signals: outputs };
}

/** @returns the output's name */
function addSignal(
  editor: GraphEditor,
  decoder: DecoderNodes,
  request: DecoderSignalRequest,
  isNext: boolean,
  tokens: TokenTensors,
  argument: string,
): string {
  const signal = knownSignal(request, argument);
  const { name, layer, ...given } = request;
  const parameters = checkParameters(signal, given, argument);
  const output = [name, layer, ...Object.values(parameters)].join('_');
  const shape = signal.shape.map((axis) => `${output}_${axis}`);
  const tap = new DecoderTap(editor, decoder, layer, isNext, tokens);
  return editor.output(output, signal.add(tap, parameters), ['batch_size', ...shape]);
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
