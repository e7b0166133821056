/** Merges patches inside a vision encoder's graph, in every layer between its attention and its MLP. */
import { TensorProto_DataType as DataType } from 'onnx-buf';
import { withBias } from './attention-bias.js';
import { AttentionTap } from './attention-tap.js';
import { logSizes, mergePatches, ungrouped, type TokenGroups } from './bipartite-merge.js';
import { layerMiddle, LayerCopy, outputsAround, tokensAt, withFreeShape } from './encoder-parts.js';
import { GraphEditor, valueInfo } from './graph-editor.js';
import { GraphIndex } from './graph-index.js';
import { addedNodes, entering, hiddenState, withNodes } from './graph-parts.js';
import type { OnnxModel } from './model.js';
import { locateEncoder, type FindOptions, type LocatedEncoder } from './vision-encoder.js';

/** What {@link mergeEncoder} returns; the batch is 1. */
export interface MergedEncoder {
  readonly model: OnnxModel;
  /** How many layers merge: those up to the one that makes the features. */
  readonly layers: number;
  /**
   * Further input: [layers] (int64), how many patches each layer merges into others; more than half of those
   * that it has is half of them, and none leaves all as they are.
   */
  readonly mergeCounts: string;
  /** Further output: [N] (int64) for each patch of the image the token of the features that stands for it. */
  readonly owners: string;
  /**
   * Further output: the same before the last layer merged: signals of that layer are about these tokens,
   * which its attention saw.
   */
  readonly attended: string;
}

/** The tokens of a layer at its middle, in the original. */
interface Middle {
  /** One tensor, or two where the node that adds the residual also normalises it. */
  readonly entry: readonly string[];
  /** The sum of residuals among them. */
  readonly residual: string;
  /** [1, S, d] */
  readonly metric: string;
}

/**
 * A vision encoder that merges patches in every layer up to the features, between attention and MLP, as ToMe
 * does (Bolya et al., arXiv 2210.09461, section 3; official code: facebookresearch/ToMe): those whose keys
 * (with bias, not scaled, mean over the heads) have the highest cosine, in two halves by turns; their average
 * is weighted by how many patches they stand for, and from the next layer on log(size) is added to the scores
 * of their keys. Prefix tokens (CLS) take no part and come first. The output has the features of the tokens
 * that are left; it is an encoder like any other, so signals may be added to it and it may be cut behind its
 * features.
 *
 * @param options - which output has the features, see findVisionEncoder
 * @throws OnnxStructureError where a layer has no middle that can be merged at, its keys cannot be read, or
 * its attention takes nothing that is added to its scores
 */
export function mergeEncoder(model: OnnxModel, options: FindOptions): MergedEncoder {
  const { located, middles } = tapped(model, options);
  const { index, encoder, attentions } = located;
  const { prefixTokens } = encoder;
  const [{ entry: first }] = middles;
  const { earlier, later } = outputsAround(index, first);
  const outputs = new Set(later.map(({ name }) => name));
  const given = new Set(first);
  const editor = new GraphEditor(index);
  const mergeCounts = editor.name('merge_counts');
  const copy = new LayerCopy(editor, outputs, tokensAt(located, 0, first));
  let groups: TokenGroups | undefined;
  let attendedGroups: TokenGroups | undefined;
  for (const [layer, { entry, residual, metric }] of middles.entries()) {
    appendTo([...entry, metric]);
    const hidden = copy.nameOf(residual);
    groups ??= ungrouped(editor, patchCount(editor, hidden, prefixTokens));
    const type = index.elementType(residual) ?? DataType.FLOAT;
    const tokens = { hidden, type, metric: copy.nameOf(metric), groups };
    const count = editor.slice(mergeCounts, 0, layer, layer + 1);
    const merged = mergePatches(editor, tokens, prefixTokens, count);
    copy.replace(entry, entering(editor, entry, residual, merged.hidden));
    attendedGroups = groups;
    groups = merged.groups;
  }
  appendTo(outputs);
  const [owners, attended] = (
    [
      ['owners', groups],
      ['attended', attendedGroups],
    ] as const
  ).map(([name, made]) => editor.output(name, made?.owners ?? '', ['patches'], DataType.INT64));

  /** Copies what is before these tensors; keys of attentions on the way stand for several patches each. */
  function appendTo(tensors: Iterable<string>): void {
    let bias: string | undefined;
    copy.append(index.ancestors(tensors, given), (node, input) => {
      const attention = groups && attentions.find((one) => one.node === node);
      if (!groups || !attention) return {};
      bias ??= logSizes(editor, groups.sizes, prefixTokens);
      return withBias(editor, attention, bias, input);
    });
  }

  const { graph } = editor.build();
  const { added, read } = addedNodes(index.model, graph);
  const isLater = new Set(later);
  return {
    model: withNodes(index.model, {
      ...graph,
      node: [...index.ancestors([...earlier.map(({ name }) => name), ...read]), ...added],
      input: [...graph.input, valueInfo(mergeCounts, DataType.INT64, [middles.length])],
      output: graph.output.map((info) => (isLater.has(info) ? withFreeShape(info, DataType.FLOAT) : info)),
    }),
    layers: middles.length,
    mergeCounts,
    owners,
    attended,
  };
}

/** The encoder with what each layer's tokens are compared by. */
function tapped(model: OnnxModel, options: FindOptions): { located: LocatedEncoder; middles: Middle[] } {
  const located = locateEncoder(model, options);
  const { index, encoder, attentions } = located;
  const editor = new GraphEditor(index);
  const middles = attentions.slice(0, encoder.featuresLayer + 1).map((attention, layer): Middle => {
    const entry = layerMiddle(located, layer, 'layer');
    const metric = new AttentionTap(editor, attention, encoder.input).keys(true);
    return { entry, residual: hiddenState(index, entry, layer), metric };
  });
  return { located: { ...located, index: new GraphIndex(editor.build()) }, middles };
}

/** A vector of one int64. */
function patchCount(editor: GraphEditor, hidden: string, prefixTokens: number): string {
  return editor.add('Sub', [editor.length(hidden, 1), editor.ints([prefixTokens])]);
}
