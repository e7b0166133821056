/** Makes a vision encoder's attention weigh tokens by how many patches they stand for. */
import { TensorProto_DataType as DataType, type NodeProto } from 'onnx-buf';
import { withBias } from './attention-bias.js';
import { logSizes } from './bipartite-merge.js';
import { copyGraph, copyNode, GraphEditor, valueInfo } from './graph-editor.js';
import { GraphIndex } from './graph-index.js';
import { withGraph, type OnnxModel } from './model.js';
import { locateEncoder, type FindOptions } from './vision-encoder.js';

/** What {@link weighSizes} returns. */
export interface WeighedEncoder {
  readonly model: OnnxModel;
  /**
   * Further inputs, one for each layer behind the first: how many patches each of its tokens stands for [n]
   * (int64), prefix tokens left out.
   */
  readonly sizes: readonly string[];
}

/**
 * A vision encoder whose layers, from the second on, add log(size) to the attention scores of their keys: for
 * tokens that were merged between its parts, as {@link mergeEncoder} has it in one graph.
 * @param options - which output has the features, see findVisionEncoder
 * @throws OnnxStructureError where an attention takes nothing that is added to its scores
 */
export function weighSizes(model: OnnxModel, options: FindOptions): WeighedEncoder {
  const { index, encoder, attentions } = locateEncoder(model, options);
  const editor = new GraphEditor(index);
  const changed = new Map<NodeProto, NodeProto>();
  const sizes = attentions.slice(1).map((attention, i) => {
    const name = editor.name(`sizes_${i + 1}`);
    const bias = logSizes(editor, editor.toFloat32(name), encoder.prefixTokens);
    const { node } = attention;
    changed.set(node, copyNode(node, withBias(editor, attention, bias, node.input)));
    return name;
  });
  const built = editor.build();
  const { graph } = built;
  const inputs = sizes.map((name) => valueInfo(name, DataType.INT64, [name]));
  const weighed = copyGraph(graph, {
    node: graph.node.map((node) => changed.get(node) ?? node),
    input: [...graph.input, ...inputs],
  });
  const unsorted = withGraph(built, weighed);
  const node = [...new GraphIndex(unsorted).nodes]; // what is added comes before who reads it
  return { model: withGraph(built, copyGraph(weighed, { node })), sizes };
}
