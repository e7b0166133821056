/** Parts of a graph: what goes through a cut before a layer, and models that hold some of the nodes. */
import type { GraphProto, NodeProto, ValueInfoProto } from 'onnx-buf';
import { OnnxStructureError } from './errors.js';
import { copyGraph, copyNode, type GraphEditor } from './graph-editor.js';
import { allInputs, describeNode, type GraphIndex } from './graph-index.js';
import { withGraph, type OnnxModel } from './model.js';

/**
 * Operators that add the residual and normalise the sum; their fourth output is the sum (onnxruntime, contrib
 * operators).
 */
export const SKIP_NORMALIZATIONS: ReadonlySet<string> = new Set([
  'SkipLayerNormalization',
  'SkipSimplifiedLayerNormalization',
]);
const SUM = 3;

/**
 * The sum of residuals among the tensors `entry` that enter a layer.
 * @throws OnnxStructureError where several enter that are no sum and its normalisation
 */
export function hiddenState(index: GraphIndex, entry: readonly string[], layer: number): string {
  if (entry.length === 1) return entry[0];
  const node = index.producer(entry.at(0));
  const sum = node?.output[SUM];
  if (node && SKIP_NORMALIZATIONS.has(node.opType) && sum !== undefined && entry.includes(sum)) return sum;
  throw new OnnxStructureError(
    index.model.file,
    `one hidden state that enters layer ${layer}`,
    node ? `${describeNode(node)}, which makes several` : 'none',
    'Export the model without graph optimisation.',
  );
}

/**
 * The tensors `entry` that enter a layer, from the sum of residuals alone: what normalises it as it is added
 * normalises it again, with nothing added.
 */
export function entering(
  editor: GraphEditor,
  entry: readonly string[],
  residual: string,
  hidden: string,
): string[] {
  const node = editor.index.producer(residual);
  return entry.length === 1 || !node ? [hidden] : normalizeSum(editor, node, hidden, entry);
}

/**
 * What a node of SKIP_NORMALIZATIONS makes of a sum of residuals, with nothing added.
 * @param wanted of its outputs those to make
 */
export function normalizeSum(
  editor: GraphEditor,
  node: NodeProto,
  hidden: string,
  wanted: readonly string[],
): string[] {
  const nothing = editor.add('Sub', [hidden, hidden]);
  const output = node.output.map((name) => (wanted.includes(name) ? editor.name(name) : ''));
  const scales = node.input.slice(2, node.opType === 'SkipLayerNormalization' ? 4 : 3); // without the bias, which the sum has
  editor.append(
    copyNode(node, {
      name: editor.name(node.opType),
      input: [hidden, nothing, ...scales],
      output,
    }),
  );
  return wanted.map((name) => output[node.output.indexOf(name)]);
}

/** The shape to state of a hidden state. */
export function hiddenShape(index: GraphIndex, residual: string): (string | number)[] {
  return ['batch_size', 'sequence_length', index.lastDimension(residual) ?? 'channels'];
}

/** Of the model's inputs those that the nodes read. */
export function inputsOf(index: GraphIndex, nodes: readonly NodeProto[]): ValueInfoProto[] {
  const read = new Set(nodes.flatMap(allInputs));
  return index.model.graph.input.filter(({ name }) => read.has(name));
}

/** The model with another graph's nodes, inputs and outputs, and of its constants those that are read. */
export function withNodes(
  model: OnnxModel,
  graph: Pick<GraphProto, 'node' | 'input' | 'output' | 'initializer' | 'valueInfo'>,
): OnnxModel {
  const { node, input, output } = graph;
  const read = new Set([...node.flatMap(allInputs), ...output.map(({ name }) => name)]);
  const initializer = graph.initializer.filter(({ name }) => read.has(name));
  const made = new Set(node.flatMap((one) => one.output));
  const stated = graph.valueInfo.filter(({ name }) => made.has(name));
  return withGraph(model, copyGraph(model.graph, { node, input, output, initializer, valueInfo: stated }));
}

/** The nodes of a graph that the model's own has not, and the tensors that these read from elsewhere. */
export function addedNodes(
  { graph: { node: original } }: OnnxModel,
  { node }: GraphProto,
): { added: NodeProto[]; read: string[] } {
  const own = new Set(original);
  const added = node.filter((one) => !own.has(one));
  const made = new Set(added.flatMap(({ output }) => output));
  return { added, read: added.flatMap(allInputs).filter((name) => !made.has(name)) };
}
