/**
 * Prunes visual tokens inside a decoder graph, as FastV does (arXiv 2403.06764), before one layer or several.
 */
import { TensorProto_DataType as DataType } from 'onnx-buf';
import {
  appendUpperLayers,
  cacheNames,
  checkLayer,
  entryOf,
  lowerNodes,
  upperOutputs,
  withOwnLengths,
} from './decoder-parts.js';
import { locateDecoder, locateStretch, pastName, type DecoderNodes, type Stretch } from './decoder.js';
import { GraphEditor, valueInfo } from './graph-editor.js';
import { GraphIndex } from './graph-index.js';
import { addedNodes, withNodes } from './graph-parts.js';
import type { OnnxModel } from './model.js';
import { positionsOf, promptAttention, type PromptRows } from './prompt-attention.js';

/** Where {@link pruneDecoder} prunes, and by which attention. */
export interface DecoderPruning {
  /**
   * K, from 1 to the number of layers - 1: the layers before K see what earlier prunings left, the input of
   * layer K is pruned.
   */
  readonly layer: number;
  /** Whose attention to the visual tokens in layer K-1 counts. Default `'last'`. */
  readonly rows?: PromptRows;
}

/** What {@link pruneDecoder} returns. */
export interface PrunedDecoder {
  readonly model: OnnxModel;
  /**
   * Further input: places [V] (int64, ascending) of the visual tokens among the S tokens that are run; empty
   * to decode.
   */
  readonly visualTokens: string;
  /** One for each pruning, in their order. */
  readonly prunings: readonly PruningNames[];
}

/** The further inputs and outputs of one pruning. */
export interface PruningNames {
  /** Further input: [1] (int64), how many of the visual tokens that came so far to keep; more keeps all. */
  readonly keepCount: string;
  /**
   * Further output: the places [S'] (int64, ascending) of all tokens that go on, text included, among those
   * that the layers before ran.
   */
  readonly keptTokens: string;
  /**
   * Further output: attention [1, S] (float32) to each token that the layers before ran, which the choice was
   * made by.
   */
  readonly promptAttention: string;
}

/** A graph that was pruned, and the layers behind the pruning. */
interface Pruned {
  readonly model: OnnxModel;
  readonly stretch: Stretch;
  readonly names: PruningNames;
  /** Places [V'] of the visual tokens that are left, among those that go on. */
  readonly visual: string;
}

/**
 * A decoder that drops visual tokens before each layer K of `prunings`: those that the prompt attends to
 * least in layer K-1, mean over heads; ties keep the lower place. Its other inputs and outputs are the
 * original's, with these meanings:
 *
 * - `attention_mask` and `position_ids` are those of all tokens, dropped ones included; the kept ones keep
 *   their positions.
 * - `past_key_values.{i}` and `present.{i}` of layers i >= K hold the kept tokens only. Whatever these hold
 *   is attended to.
 * - With no visual tokens given nothing is dropped, so the same graph decodes.
 * - `logits` has a row for each kept token. The batch is 1.
 *
 * @param prunings - by ascending layer
 * @throws OnnxArgumentError where a layer is out of range, or not behind the one before it
 * @throws OnnxStructureError where the model is no decoder that can be cut before that layer, see findDecoder
 */
export function pruneDecoder(model: OnnxModel, prunings: readonly DecoderPruning[]): PrunedDecoder {
  const whole = locateDecoder(model);
  const visualTokens = new GraphEditor(whole.index).name('visual_tokens');
  let decoder = whole;
  let visual = visualTokens;
  const names: PruningNames[] = [];
  for (const [i, pruning] of prunings.entries()) {
    checkLayer(`prunings[${i}].layer`, pruning.layer, decoder);
    const pruned = pruneOnce(decoder, pruning, visual);
    names.push(pruned.names);
    decoder = locateStretch(new GraphIndex(pruned.model), pruned.stretch);
    visual = pruned.visual;
  }
  return { model: decoder.index.model, visualTokens, prunings: names };
}

/**
 * @param visual the tensor with the places of the visual tokens; where nothing makes it, it becomes an input
 */
function pruneOnce(decoder: DecoderNodes, { layer, rows = 'last' }: DecoderPruning, visual: string): Pruned {
  const { index } = decoder;
  const { model } = index;
  const editor = new GraphEditor(index);
  const keepCount = editor.name('keep_count');
  const positions = positionsOf(editor, decoder);
  const scores = promptAttention(editor, decoder, layer - 1, rows, visual, positions);
  const { kept, left } = keep(editor, decoder, scores, visual, keepCount);
  const gather = (x: string, axis = 1): string => editor.add('Gather', [x, kept], { axis });
  const inputs = {
    hidden: entryOf(decoder, layer).map((x) => gather(x)),
    mask: keptMask(editor, decoder, layer, gather),
    positions: gather(positions, -1),
  };
  appendUpperLayers(editor, decoder, layer, inputs);
  const keptTokens = editor.output('kept_tokens', kept, [`kept_${layer}`], DataType.INT64);
  const attention = editor.output('prompt_attention', scores, ['batch_size', `run_${layer}`]);

  const { graph } = editor.build();
  const { added, read } = addedNodes(model, graph);
  const caches = cacheNames(layer, decoder.end);
  const upper = new Set(upperOutputs(decoder, layer));
  const given = [
    ...(index.producer(visual) ? [] : [valueInfo(visual, DataType.INT64, ['visual_tokens'])]),
    valueInfo(keepCount, DataType.INT64, [1]),
  ];
  const input = [
    ...graph.input.map((info) => (caches.has(info.name) ? withOwnLengths(info, layer) : info)),
    ...given,
  ];
  const output = graph.output.map((info) => (upper.has(info) ? withOwnLengths(info, layer) : info));
  const node = [...lowerNodes(decoder, layer, read), ...added];
  return {
    model: withNodes(model, { ...graph, node, input, output }),
    stretch: {
      ...inputs,
      first: layer,
      earlier: new Set([...decoder.stretch.earlier, keptTokens, attention]),
    },
    names: { keepCount, keptTokens, promptAttention: attention },
    visual: left,
  };
}

/**
 * Places [S'] of the tokens that stay: all that are not visual, and the visual ones of the highest scores;
 * and among those the places of the visual ones.
 */
function keep(
  editor: GraphEditor,
  { stretch }: DecoderNodes,
  scores: string,
  visual: string,
  keepCount: string,
): { kept: string; left: string } {
  const ofVisual = editor.add('Gather', [editor.reshape(scores, [-1]), visual]);
  const all = editor.length(visual, 0);
  const { indices } = editor.topK(ofVisual, editor.smaller(keepCount, all));
  const best = editor.add('Gather', [visual, indices]);
  const everything = editor.fill(1, editor.length(stretch.hidden[0], 1));
  const text = editor.add('ScatterElements', [everything, visual, editor.fill(0, all)]);
  const ones = editor.fill(1, editor.length(best, 0));
  const staying = editor.add('ScatterElements', [text, best, ones]);
  const places = (x: string): string => editor.reshape(editor.add('NonZero', [x]), [-1]);
  const kept = places(staying);
  const isVisual = editor.add('Sub', [editor.ints([1]), editor.add('Gather', [text, kept])]);
  return { kept, left: places(isVisual) };
}

/**
 * The mask for the layers from `layer` on: all that they cached, and the kept ones of the tokens that are
 * run. [1, P' + S']
 */
function keptMask(
  editor: GraphEditor,
  { stretch }: DecoderNodes,
  layer: number,
  gather: (x: string) => string,
): string {
  const cached = editor.length(pastName(layer, 'key'), 2);
  const shape = editor.add('Concat', [editor.ints([1]), cached], { axis: 0 });
  const current = gather(editor.last(stretch.mask, 1, editor.length(stretch.hidden[0], 1)));
  return editor.add('Concat', [editor.fill(1, shape), current], { axis: 1 });
}
