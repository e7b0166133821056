/** Prunes visual tokens inside a decoder graph, as FastV does (arXiv 2403.06764). */
import { TensorProto_DataType as DataType } from 'onnx-buf';
import { EMBEDDINGS, locateDecoder, MASK, pastName } from './decoder.js';
import { GraphEditor, valueInfo } from './graph-editor.js';
import type { OnnxModel } from './model.js';
import { positionsOf, promptAttention, type PromptRows } from './prompt-attention.js';
import {
  addedNodes,
  appendUpperLayers,
  cacheNames,
  checkLayer,
  lowerNodes,
  upperOutputs,
  withNodes,
  withOwnLengths,
} from './decoder-parts.js';

/** Where {@link pruneAtLayer} prunes, and by which attention. */
export interface PruneOptions {
  /** K, from 1 to the number of layers - 1: layers 0..K-1 see every token, the input of layer K is pruned. */
  readonly layer: number;
  /** Whose attention to the visual tokens in layer K-1 counts. Default `'last'`. */
  readonly rows?: PromptRows;
}

/** What {@link pruneAtLayer} returns. */
export interface PrunedDecoder {
  readonly model: OnnxModel;
  /** Further input: places [V] (int64, ascending) of the visual tokens among the S tokens that are run; empty to decode. */
  readonly visualTokens: string;
  /** Further input: [1] (int64), how many of them to keep; more than V keeps all. */
  readonly keepCount: string;
  /** Further output: the places [S'] (int64, ascending) of all tokens that layers K and later ran, text included. */
  readonly keptTokens: string;
  /** Further output: attention [1, S] (float32) to each token that is run, which the choice was made by. */
  readonly promptAttention: string;
}

/**
 * A decoder that drops visual tokens before layer K: those that the prompt attends to least in layer K-1, mean over heads;
 * ties keep the lower place. Its other inputs and outputs are the original's, with these meanings:
 *
 * - `attention_mask` and `position_ids` are those of all tokens, dropped ones included; the kept ones keep their positions.
 * - `past_key_values.{i}` and `present.{i}` of layers i >= K hold the kept tokens only. Whatever these hold is attended to.
 * - With no visual tokens given nothing is dropped, so the same graph decodes.
 * - `logits` has a row for each kept token. The batch is 1.
 *
 * @throws OnnxArgumentError where `layer` is out of range
 * @throws OnnxStructureError where the model is no decoder that can be cut before that layer, see findDecoder
 */
export function pruneAtLayer(model: OnnxModel, { layer, rows = 'last' }: PruneOptions): PrunedDecoder {
  const decoder = locateDecoder(model);
  checkLayer(layer, decoder);
  const editor = new GraphEditor(decoder.index);
  const visualTokens = editor.name('visual_tokens');
  const keepCount = editor.name('keep_count');
  const positions = positionsOf(editor, decoder);
  const scores = promptAttention(editor, decoder, layer - 1, rows, visualTokens, positions);
  const kept = keep(editor, scores, visualTokens, keepCount);
  const gather = (x: string): string => editor.add('Gather', [x, kept], { axis: 1 });
  appendUpperLayers(editor, decoder, layer, {
    hidden: (decoder.layers[layer]?.entry ?? []).map(gather),
    mask: keptMask(editor, layer, gather),
    positions: gather(positions),
  });
  const keptTokens = editor.output('kept_tokens', kept, ['kept_sequence_length'], DataType.INT64);
  const attention = editor.output('prompt_attention', scores, ['batch_size', 'sequence_length']);

  const { graph } = editor.build();
  const { added, read } = addedNodes(model, graph);
  const caches = cacheNames(layer, decoder.layers.length);
  const upper = new Set(upperOutputs(decoder, layer));
  const input = [
    ...graph.input.map((info) => (caches.has(info.name) ? withOwnLengths(info) : info)),
    valueInfo(visualTokens, DataType.INT64, ['visual_tokens']),
    valueInfo(keepCount, DataType.INT64, [1]),
  ];
  const output = graph.output.map((info) => (upper.has(info) ? withOwnLengths(info) : info));
  const node = [...lowerNodes(decoder, layer, read), ...added];
  const pruned = withNodes(model, { ...graph, node, input, output });
  return { model: pruned, visualTokens, keepCount, keptTokens, promptAttention: attention };
}

/** Places [S'] of the tokens that stay: all that are not visual, and the visual ones of the highest scores. */
function keep(editor: GraphEditor, scores: string, visual: string, keepCount: string): string {
  const ofVisual = editor.add('Gather', [editor.reshape(scores, [-1]), visual]);
  const all = editor.length(visual, 0);
  const { indices } = editor.topK(ofVisual, editor.smaller(keepCount, all));
  const best = editor.add('Gather', [visual, indices]);
  const everything = editor.fill(1, editor.length(EMBEDDINGS, 1));
  const text = editor.add('ScatterElements', [everything, visual, editor.fill(0, all)]);
  const ones = editor.fill(1, editor.length(best, 0));
  const staying = editor.add('ScatterElements', [text, best, ones]);
  return editor.reshape(editor.add('NonZero', [staying]), [-1]);
}

/** The mask for the layers from `layer` on: all that they cached, and the kept ones of the tokens that are run. [1, P' + S'] */
function keptMask(editor: GraphEditor, layer: number, gather: (x: string) => string): string {
  const cached = editor.length(pastName(layer, 'key'), 2);
  const shape = editor.add('Concat', [editor.ints([1]), cached], { axis: 0 });
  const current = gather(editor.last(MASK, 1, editor.length(EMBEDDINGS, 1)));
  return editor.add('Concat', [editor.fill(1, shape), current], { axis: 1 });
}
