/** The normalisation that stands before a decoder's head, applied to any of its hidden states. */
import type { NodeProto } from 'onnx-buf';
import type { DecoderNodes } from './decoder.js';
import { strand } from './dominators.js';
import { OnnxStructureError } from './errors.js';
import { copyNode, type GraphEditor } from './graph-editor.js';
import type { GraphIndex } from './graph-index.js';
import { normalizeSum, SKIP_NORMALIZATIONS } from './graph-parts.js';
import { isPerToken } from './per-token.js';

/** Operators that begin a head: what goes into them is normalised. */
const HEADS = new Set([
  ...['MatMul', 'FusedMatMul', 'Gemm', 'MatMulNBits'],
  ...['DynamicQuantizeLinear', 'QuantizeLinear', 'DynamicQuantizeMatMul'],
]);
/** Operators that choose the tokens which get logits. */
const CHOOSERS = new Set(['Gather', 'GatherND', 'Identity', 'Slice']);

/**
 * The normalisation before the head, of other hidden states.
 * @param hidden [1, S, D] a sum of residuals
 * @throws OnnxStructureError where the graph has no such normalisation, token by token
 */
export function finalNorm(editor: GraphEditor, decoder: DecoderNodes, hidden: string): string {
  const { index } = editor;
  const line = strand(index, decoder.stretch.hidden, 'logits');
  const flow = index.dependents(decoder.stretch.hidden);
  const head = line.findIndex(({ opType }, i) => HEADS.has(opType) && i > lastSum(line, flow));
  const sum = line.at(lastSum(line, flow));
  const normalized = head > 0 && withoutChoice(index, line[head].input[0]);
  if (!sum || !normalized) throw missing(index);
  if (SKIP_NORMALIZATIONS.has(sum.opType)) {
    if (sum.output[0] !== normalized) throw missing(index);
    return normalizeSum(editor, sum, hidden, [normalized])[0];
  }
  const from = chosenOf(index, sum.output[0]);
  if (from === normalized || !isPerToken(index, from, normalized)) throw missing(index);
  return copyBetween(editor, from, normalized, hidden);
}

/** Place of the last node that adds two values of the flow: the last residual. */
function lastSum(line: readonly NodeProto[], flow: ReadonlySet<string>): number {
  return line.findLastIndex(({ opType, input }) => {
    const isSum = opType === 'Add' || SKIP_NORMALIZATIONS.has(opType);
    return isSum && input.filter((name) => flow.has(name)).length > 1;
  });
}

/** `tensor` before tokens were chosen of it. */
function withoutChoice(index: GraphIndex, tensor: string): string {
  const node = index.producer(tensor);
  return node && CHOOSERS.has(node.opType) ? withoutChoice(index, node.input[0]) : tensor;
}

/** `tensor` behind the choice of tokens, where that is all that becomes of it. */
function chosenOf(index: GraphIndex, tensor: string): string {
  const [node, ...others] = index.consumers(tensor);
  const isChosen = others.length === 0 && CHOOSERS.has(node.opType) && node.input[0] === tensor;
  return isChosen ? chosenOf(index, node.output[0]) : tensor;
}

/** The nodes between two tensors once more, with another one in place of the first. */
function copyBetween(editor: GraphEditor, from: string, to: string, instead: string): string {
  const { index } = editor;
  const flow = index.dependents([from]);
  const names = new Map([[from, instead]]);
  for (const node of index.ancestors([to], new Set([from]))) {
    if (!node.output.some((name) => flow.has(name))) continue; // constants serve both
    for (const name of node.output.filter((output) => output !== '')) names.set(name, editor.name(name));
    editor.append(
      copyNode(node, {
        name: editor.name(node.opType),
        input: node.input.map((name) => names.get(name) ?? name),
        output: node.output.map((name) => names.get(name) ?? name),
      }),
    );
  }
  return names.get(to) ?? to;
}

function missing({ model }: GraphIndex): OnnxStructureError {
  return new OnnxStructureError(
    model.file,
    'a normalisation of the last hidden state before the head, token by token',
    'none of a known form',
    'Export the decoder with LayerNorm or RMSNorm before its head.',
  );
}
