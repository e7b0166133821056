/** Cuts a decoder in two before a layer, so that what goes from one part into the other can be changed outside. */
import { create } from '@bufbuild/protobuf';
import { NodeProtoSchema, TensorProto_DataType as DataType } from 'onnx-buf';
import {
  addedNodes,
  appendUpperLayers,
  cacheNames,
  checkLayer,
  lowerNodes,
  upperOutputs,
  withNodes,
} from './decoder-parts.js';
import { locateDecoder, MASK, POSITIONS, type DecoderNodes } from './decoder.js';
import { OnnxArgumentError, OnnxStructureError } from './errors.js';
import { GraphEditor, valueInfo } from './graph-editor.js';
import { allInputs, describeNode } from './graph-index.js';
import type { OnnxModel } from './model.js';
import { positionsOf, promptAttention, type PromptRows } from './prompt-attention.js';

/** Operators that add the residual and normalise the sum; their fourth output is the sum (onnxruntime, contrib operators). */
const SKIP_NORMALIZATIONS = new Set(['SkipLayerNormalization', 'SkipSimplifiedLayerNormalization']);
const SUM = 3;

/** Where {@link splitDecoder} cuts, and what it puts out beside the hidden state. */
export interface SplitDecoderOptions {
  /** K, from 1 to the number of layers - 1: the lower part has the layers 0..K-1. */
  readonly layer: number;
  /** Attention of lower layers to put out. Default none. */
  readonly signals?: readonly { readonly layer: number; readonly rows: PromptRows }[];
}

/** What {@link splitDecoder} returns; the batch is 1. */
export interface SplitDecoder {
  /** The original's inputs without the upper caches -> the lower caches, `hidden`, `promptAttention`. */
  readonly lower: OnnxModel;
  /**
   * `hidden` of the S' tokens that go on, `attention_mask` [1, P' + S'] with P' of them cached before, their `position_ids` [1, S'] (gaps allowed), the
   * upper caches, and what else the original's head reads -> logits, upper caches.
   */
  readonly upper: OnnxModel;
  /** The lower part's output [1, S, D] and the upper part's input [1, S', D], any S'; float32: the sum of residuals, not normalised. */
  readonly hidden: string;
  /** Further input of the lower part: places [V] (int64, ascending) of the visual tokens among the S tokens that are run; empty to decode. */
  readonly visualTokens: string;
  /** Further outputs of the lower part, one a signal: attention [1, S] (float32) to each token that is run, mean over heads. */
  readonly promptAttention: readonly string[];
}

/**
 * Cuts a decoder before layer K into two that share its weights: none is in both. One after the other they are the original; between them any map may be
 * applied to the hidden state. Both go on from their own caches, so that they decode as well.
 *
 * @throws OnnxArgumentError where a layer is out of range
 * @throws OnnxStructureError where the model is no decoder that can be cut before that layer, see findDecoder
 */
export function splitDecoder(model: OnnxModel, { layer, signals = [] }: SplitDecoderOptions): SplitDecoder {
  const decoder = locateDecoder(model);
  checkLayer(layer, decoder);
  for (const [i, signal] of signals.entries()) {
    if (Number.isInteger(signal.layer) && signal.layer >= 0 && signal.layer < layer) continue;
    const expected = `a layer of the lower part, 0 to ${layer - 1}`;
    throw new OnnxArgumentError(`signals[${i}].layer`, signal.layer, expected);
  }
  const hidden = hiddenState(decoder, layer);
  return { ...lowerPart(decoder, layer, hidden, signals), upper: upperPart(decoder, layer, hidden) };
}

/** The sum of residuals that enters a layer. */
function hiddenState({ index, layers }: DecoderNodes, layer: number): string {
  const entry = layers[layer]?.entry ?? [];
  if (entry.length === 1) return entry[0];
  const node = index.producer(entry[0]);
  const sum = node?.output[SUM];
  if (node && SKIP_NORMALIZATIONS.has(node.opType) && sum !== undefined && entry.includes(sum)) return sum;
  throw new OnnxStructureError(
    index.model.file,
    `one hidden state that enters layer ${layer}`,
    node ? `${describeNode(node)}, which makes several` : 'none',
    'Export the decoder without graph optimisation.',
  );
}

function lowerPart(
  decoder: DecoderNodes,
  layer: number,
  residual: string,
  signals: NonNullable<SplitDecoderOptions['signals']>,
): Omit<SplitDecoder, 'upper'> {
  const { index } = decoder;
  const editor = new GraphEditor(index);
  const hidden = editor.output('hidden', residual, hiddenShape(decoder, residual));
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
    input: [...inputsOf(decoder, node), valueInfo(visualTokens, DataType.INT64, ['visual_tokens'])],
    output: graph.output.filter((info) => !upper.has(info)),
  });
  return { lower, hidden, visualTokens, promptAttention: attention };
}

function upperPart(decoder: DecoderNodes, layer: number, residual: string): OnnxModel {
  const { index } = decoder;
  const editor = new GraphEditor(index);
  const hidden = editor.name('hidden');
  const type = index.elementType(residual) ?? DataType.FLOAT;
  const cast = editor.add('Cast', [hidden], { to: type });
  appendUpperLayers(editor, decoder, layer, {
    hidden: entering(editor, decoder, layer, residual, cast),
    mask: MASK,
    positions: POSITIONS,
  });
  const { graph } = editor.build();
  const { added } = addedNodes(index.model, graph);
  const given = new Set([MASK, POSITIONS, ...cacheNames(0, layer)]);
  const output = upperOutputs(decoder, layer);
  return withNodes(index.model, {
    ...graph,
    node: added,
    input: [
      valueInfo(hidden, DataType.FLOAT, hiddenShape(decoder, residual)),
      valueInfo(MASK, index.elementType(MASK) ?? DataType.INT64, ['batch_size', 'total_sequence_length']),
      valueInfo(POSITIONS, DataType.INT64, ['batch_size', 'sequence_length']),
      ...inputsOf(decoder, added).filter(({ name }) => !given.has(name)),
    ],
    output,
  });
}

/** The tensors that enter the layer, from the sum of residuals alone: what normalises it as it is added normalises it again, with nothing added. */
function entering(
  editor: GraphEditor,
  { index, layers }: DecoderNodes,
  layer: number,
  residual: string,
  hidden: string,
): string[] {
  const entry = layers[layer]?.entry ?? [];
  const node = index.producer(residual);
  if (entry.length === 1 || !node) return [hidden];
  const nothing = editor.add('Sub', [hidden, hidden]);
  const output = node.output.map((name) => (entry.includes(name) ? editor.name(name) : ''));
  const scales = node.input.slice(2, node.opType === 'SkipLayerNormalization' ? 4 : 3); // without the bias, which the sum has
  editor.append(
    create(NodeProtoSchema, {
      ...node,
      name: editor.name(node.opType),
      input: [hidden, nothing, ...scales],
      output,
    }),
  );
  return entry.map((name) => output[node.output.indexOf(name)]);
}

/** Of the model's inputs those that the nodes read. */
function inputsOf(
  { index }: DecoderNodes,
  nodes: Parameters<typeof withNodes>[1]['node'],
): ReturnType<typeof valueInfo>[] {
  const read = new Set(nodes.flatMap(allInputs));
  return index.model.graph.input.filter(({ name }) => read.has(name));
}

function hiddenShape({ index }: DecoderNodes, residual: string): (string | number)[] {
  return ['batch_size', 'sequence_length', index.lastDimension(residual) ?? 'channels'];
}
