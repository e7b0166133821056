/**
 * Prunes patches inside a vision encoder's graph, before one layer or several: those of the lowest scores in
 * the layer before.
 */
import { TensorProto_DataType as DataType } from 'onnx-buf';
import { AttentionTap } from './attention-tap.js';
import { appendLaterLayers, encoderEntry, outputsAround, withFreeShape } from './encoder-parts.js';
import { OnnxArgumentError } from './errors.js';
import { GraphEditor, valueInfo } from './graph-editor.js';
import { addedNodes, withNodes } from './graph-parts.js';
import type { OnnxModel } from './model.js';
import { scoreOf, type ScoreRequest } from './signals/add-signals.js';
import { locateEncoder, type FindOptions, type LocatedEncoder } from './vision-encoder.js';

/** Where {@link pruneEncoder} prunes, and by which signal. */
export interface EncoderPruning {
  /**
   * From 1 to the layer that makes the features: the layers before it see what earlier prunings left, its own
   * input is pruned.
   */
  readonly layer: number;
  /** A signal with one value a patch, of the layer before. */
  readonly score: ScoreRequest;
}

/** What {@link pruneEncoder} returns; the batch is 1. */
export interface PrunedEncoder {
  readonly model: OnnxModel;
  /** One for each pruning, in their order. */
  readonly prunings: readonly EncoderPruningNames[];
}

/** The further inputs and outputs of one pruning. */
export interface EncoderPruningNames {
  /** Further input: [1] (int64), how many of the patches that came so far to keep; more keeps all. */
  readonly keepCount: string;
  /**
   * Further output: the patches [K] (int64, ascending) that go on, by their number among those that the
   * layers before ran.
   */
  readonly keptPatches: string;
  /** Further output: the scores [1, N] (float32) of the patches that the layers before ran. */
  readonly scores: string;
}

/**
 * A vision encoder that drops patches before each layer of `prunings`: those with the lowest scores in the
 * layer before; ties keep the lower index. Prefix tokens (CLS) always stay and come first. The output has the
 * features of the patches that are left, in their order; it is an encoder like any other, so signals may be
 * added to it and it may be cut.
 *
 * @param options - which output has the features, see findVisionEncoder
 * @param prunings - by ascending layer
 * @throws OnnxArgumentError where a layer is out of range or not behind the one before it, or a score is no
 * signal with one value a patch
 * @throws OnnxStructureError where the encoder cannot be cut before that layer, or cannot give the score
 */
export function pruneEncoder(
  model: OnnxModel,
  options: FindOptions,
  prunings: readonly EncoderPruning[],
): PrunedEncoder {
  let pruned = model;
  const names: EncoderPruningNames[] = [];
  for (const [i, pruning] of prunings.entries()) {
    const before = prunings.at(i - 1);
    if (i > 0 && before && pruning.layer <= before.layer) {
      throw new OnnxArgumentError(`prunings[${i}].layer`, pruning.layer, `a layer behind ${before.layer}`);
    }
    const once = pruneOnce(locateEncoder(pruned, options), pruning, `prunings[${i}]`);
    pruned = once.model;
    names.push(once.names);
  }
  return { model: pruned, prunings: names };
}

function pruneOnce(
  located: LocatedEncoder,
  { layer, score }: EncoderPruning,
  argument: string,
): { model: OnnxModel; names: EncoderPruningNames } {
  const { index, encoder, attentions } = located;
  const entry = encoderEntry(located, layer, `${argument}.layer`);
  const editor = new GraphEditor(index);
  const keepCount = editor.name('keep_count');
  const tap = new AttentionTap(editor, attentions[layer - 1], encoder.input);
  const values = scoreOf(editor, encoder, tap, score, `${argument}.score`);
  const kept = keep(editor, values, keepCount);
  const { prefixTokens } = encoder;
  const patches = prefixTokens === 0 ? kept : editor.add('Add', [kept, editor.ints([prefixTokens])]);
  const prefix = Array.from({ length: prefixTokens }, (_, i) => i);
  const places =
    prefixTokens === 0 ? patches : editor.add('Concat', [editor.ints(prefix), patches], { axis: 0 });
  appendLaterLayers(
    editor,
    located,
    layer,
    entry,
    entry.map((name) => editor.add('Gather', [name, places], { axis: 1 })),
  );
  const keptPatches = editor.output(`kept_patches_${layer}`, kept, [`kept_${layer}`], DataType.INT64);
  const scores = editor.output(`scores_${layer}`, values, [1, `scored_${layer}`]);

  const { graph } = editor.build();
  const { added, read } = addedNodes(index.model, graph);
  const { earlier, later } = outputsAround(index, entry);
  const isLater = new Set(later);
  const model = withNodes(index.model, {
    ...graph,
    node: [...index.ancestors([...earlier.map(({ name }) => name), ...read]), ...added],
    input: [...graph.input, valueInfo(keepCount, DataType.INT64, [1])],
    output: graph.output.map((info) => (isLater.has(info) ? withFreeShape(info, DataType.FLOAT) : info)),
  });
  return { model, names: { keepCount, keptPatches, scores } };
}

/** The patches [K] with the highest scores [1, N], ascending. */
function keep(editor: GraphEditor, scores: string, keepCount: string): string {
  const flat = editor.reshape(scores, [-1]);
  const all = editor.length(flat, 0);
  const { indices } = editor.topK(flat, editor.smaller(keepCount, all));
  const ones = editor.fill(1, editor.length(indices, 0));
  const staying = editor.add('ScatterElements', [editor.fill(0, all), indices, ones]);
  return editor.reshape(editor.add('NonZero', [staying]), [-1]);
}
