/** How much the text of a prompt attends to each of its tokens, inside the decoder graph. */
import { AttentionTap } from './attention-tap.js';
import { standardProbabilities } from './decoder-attention.js';
import { pastName, rotatesItself, type DecoderNodes } from './decoder.js';
import { OnnxArgumentError } from './errors.js';
import type { GraphEditor } from './graph-editor.js';
import { checkGroupQuery, currentKeys, probabilities } from './group-query.js';

/**
 * Which queries are averaged: the last token of the prompt (FastV's code), or all behind the last visual
 * token (its paper).
 */
export type PromptRows = 'last' | 'mean';

/** Positions [1, S] of the tokens that are run: those given, or those that follow the cache. */
export function positionsOf(editor: GraphEditor, { stretch }: DecoderNodes): string {
  if (stretch.positions !== null) return stretch.positions;
  const cached = editor.length(pastName(0, 'key'), 2); // only the first stretch counts, which is never pruned
  const end = editor.add('Add', [cached, editor.length(stretch.hidden[0], 1)]);
  return editor.reshape(editor.range(cached, end), [1, -1]);
}

/**
 * Attention of one layer from the text to each of the S tokens that are run, mean over heads. [1, S], float32
 *
 * @param visual - the tensor of visual positions [V], ascending
 * @param isNext - see {@link attentionRows}
 */
export function promptAttention(
  editor: GraphEditor,
  decoder: DecoderNodes,
  layer: number,
  rows: PromptRows,
  visual: string,
  positions: string,
  isNext: boolean = false,
): string {
  const tokens = editor.length(decoder.stretch.hidden[0], 1);
  const count = rows === 'last' ? editor.ints([1]) : textRows(editor, visual, tokens);
  const map = attentionRows(editor, decoder, layer, count, positions, isNext); // [1, H, rows, T]
  const current = editor.last(map, 3, tokens); // [1, H, rows, S]
  // Two means are several times faster than one over both axes.
  return editor.reduce('ReduceMean', editor.reduce('ReduceMean', current, 2), 1);
}

/**
 * The number of tokens behind the last visual one, at least 1; all of them where there is no visual token.
 */
function textRows(editor: GraphEditor, visual: string, tokens: string): string {
  const last = editor.slice(editor.add('Concat', [editor.ints([-1]), visual], { axis: 0 }), 0, -1);
  const behind = editor.add('Sub', [editor.add('Sub', [tokens, last]), editor.ints([1])]);
  return editor.larger(behind, editor.ints([1]));
}

/**
 * Attention of a layer's last `count` queries, over cached tokens too. [1, H, count, T], float32
 *
 * @param layer - one of the stretch; where it is behind a cut (`isNext`), by its normalisation and projections
 * of what goes through the cut. Its own cache is not there then, so that this is right of prompts only
 */
export function attentionRows(
  editor: GraphEditor,
  decoder: DecoderNodes,
  layer: number,
  count: string,
  positions: string,
  isNext: boolean = false,
): string {
  const attention = decoder.attentions.get(layer);
  const description = decoder.layers.get(layer);
  if (!attention || !description) throw new OnnxArgumentError('layer', layer, 'a layer of the stretch');
  if (attention.form === 'softmax') {
    const map = new AttentionTap(editor, attention.nodes, decoder.stretch.hidden[0]).probabilities();
    return editor.toFloat32(editor.last(map, 2, count));
  }
  const { node } = attention;
  if (attention.form === 'ai.onnx.Attention') return standardProbabilities(editor, node, count);
  checkGroupQuery(editor, node);
  const turned = rotatesItself(node) ? positions : undefined;
  const keys = isNext ? currentKeys(editor, node, description, turned) : undefined;
  return probabilities(editor, node, description, count, turned, keys);
}
