/** Finds self-attention as exporters and optimizers write it, and gives one description for all forms. */
import type { NodeProto } from 'onnx-buf';
import { attribute, operatorName, type GraphIndex } from './graph-index.js';

/** How an attention is written: as MatMul, Softmax, MatMul, or as one of the fused operators. */
export type AttentionForm =
  'softmax' | 'ai.onnx.Attention' | 'com.microsoft.Attention' | 'com.microsoft.MultiHeadAttention';

/** A self-attention: S tokens, H heads of d channels, D = H * d. */
export interface AttentionNodes {
  readonly form: AttentionForm;
  /** The Softmax, or the fused operator. */
  readonly node: NodeProto;
  /** The node whose first output is the attended values. */
  readonly result: NodeProto;
  /** The MatMul of queries and keys, where it is written out. */
  readonly scores?: NodeProto;
  /** H; absent where the graph does not say. */
  readonly heads?: number;
}

/**
 * Operators between MatMul and Softmax, and between Softmax and MatMul, that leave the map of scores a map.
 */
const BEFORE_SOFTMAX = new Set(['Add', 'Cast', 'Clip', 'Div', 'Identity', 'Mul', 'Reshape', 'Tanh', 'Where']);
const BEHIND_SOFTMAX = new Set(['Cast', 'Dropout', 'Identity', 'Reshape', 'Where']);
/** Operators between a projection and the MatMul of the scores that only lay it out anew, or scale it. */
const LAYOUT = new Set(['Cast', 'Identity', 'Reshape', 'Squeeze', 'Transpose', 'Unsqueeze']);
const PRODUCTS = new Set(['MatMul', 'FusedMatMul']);

/** Every attention in the graph whose queries and keys both depend on `flow`, in the graph's order. */
export function findAttentions(index: GraphIndex, flow: ReadonlySet<string>): AttentionNodes[] {
  return index.nodes.flatMap((node) => matchAttention(index, flow, node) ?? []);
}

function matchAttention(
  index: GraphIndex,
  flow: ReadonlySet<string>,
  node: NodeProto,
): AttentionNodes | undefined {
  const name = operatorName(node);
  if (name === 'Softmax') return matchWrittenOut(index, flow, node);
  const form = name === 'Attention' ? 'ai.onnx.Attention' : name;
  switch (form) {
    case 'com.microsoft.Attention':
    case 'com.microsoft.MultiHeadAttention':
    case 'ai.onnx.Attention': {
      const [query = '', key = ''] = node.input;
      if (!flow.has(query) || (form !== 'com.microsoft.Attention' && key !== '' && !flow.has(key)))
        return undefined;
      const heads = Number((attribute(node, 'num_heads') ?? attribute(node, 'q_num_heads'))?.i ?? 0);
      const known = heads > 0 ? heads : headsOf(index, layout(index, query).source, query);
      return { form, node, result: node, ...(known === undefined ? {} : { heads: known }) };
    }
    default:
      return undefined;
  }
}

function matchWrittenOut(
  index: GraphIndex,
  flow: ReadonlySet<string>,
  softmax: NodeProto,
): AttentionNodes | undefined {
  if (!isOverKeys(index, softmax)) return undefined;
  const scores = upstreamProduct(index, flow, softmax.input[0]);
  const result = downstreamProduct(index, flow, softmax.output[0]);
  if (!scores || !result) return undefined;
  const [query = ''] = scores.input;
  const heads = headsOf(index, layout(index, query).source, query);
  return { form: 'softmax', node: softmax, result, scores, ...(heads === undefined ? {} : { heads }) };
}

/**
 * Whether a Softmax goes over the last axis; before opset 13 its default was 1, all further axes taken
 * together.
 */
function isOverKeys(index: GraphIndex, softmax: NodeProto): boolean {
  const axis = Number(attribute(softmax, 'axis')?.i ?? (index.opset('') < 13 ? 1 : -1));
  return axis === -1 || axis + 1 === index.rank(softmax.input[0]);
}

/** The product of two tensors of the flow that a Softmax normalises, through scales and masks. */
function upstreamProduct(
  index: GraphIndex,
  flow: ReadonlySet<string>,
  tensor = '',
  steps = 8,
): NodeProto | undefined {
  const node = index.producer(tensor);
  if (!node || steps === 0) return undefined;
  if (PRODUCTS.has(node.opType)) return node.input.every((input) => flow.has(input)) ? node : undefined;
  if (!BEFORE_SOFTMAX.has(node.opType)) return undefined;
  for (const input of node.input) {
    const found = flow.has(input) ? upstreamProduct(index, flow, input, steps - 1) : undefined;
    if (found) return found;
  }
  return undefined;
}

/** The product that weights values of the flow with the probabilities. */
function downstreamProduct(
  index: GraphIndex,
  flow: ReadonlySet<string>,
  tensor = '',
  steps = 8,
): NodeProto | undefined {
  for (const node of steps === 0 ? [] : index.consumers(tensor)) {
    if (PRODUCTS.has(node.opType)) {
      if (node.input[0] === tensor && flow.has(node.input[1] ?? '')) return node;
    } else if (BEHIND_SOFTMAX.has(node.opType)) {
      const found = downstreamProduct(index, flow, node.output[0], steps - 1);
      if (found) return found;
    }
  }
  return undefined;
}

/** How an operand of the scores was made from its projection. */
export interface Layout {
  /** What the projection made, before it was split into heads. */
  readonly source: string;
  /** The operand before the scales that were applied last. */
  readonly unscaled: string;
  /** Scalars that went into `unscaled` earlier: each was multiplied with or divided by. */
  readonly scales: readonly Scale[];
}

/** A scalar tensor that something is multiplied with or divided by. */
interface Scale {
  readonly opType: 'Mul' | 'Div';
  readonly by: string;
}

/** Follows an operand of the scores up to its projection. */
export function layout(index: GraphIndex, operand: string): Layout {
  const scales: Scale[] = [];
  let unscaled = operand;
  let source = operand;
  for (let steps = 0; steps < 16; steps++) {
    const node = index.producer(source);
    if (!node) break;
    const scaled = scaledInput(index, node);
    if (scaled) {
      if (unscaled === source) unscaled = scaled.input;
      else scales.push(scaled.scale);
      source = scaled.input;
    } else if (LAYOUT.has(node.opType)) {
      source = node.input[0];
    } else break;
  }
  return { source, unscaled, scales };
}

function scaledInput(index: GraphIndex, node: NodeProto): { input: string; scale: Scale } | undefined {
  const { opType } = node;
  if (opType !== 'Mul' && opType !== 'Div') return undefined;
  const [first, second] = node.input;
  if (isScalar(index, second)) return { input: first, scale: { opType, by: second } };
  return opType === 'Mul' && isScalar(index, first)
    ? { input: second, scale: { opType, by: first } }
    : undefined;
}

/**
 * A constant of one element, or one computed from shapes (as PyTorch writes the scale of a dynamic head
 * size).
 */
function isScalar(index: GraphIndex, tensor: string): boolean {
  const values = index.values(tensor);
  if (values) return values.length === 1;
  return (
    ['Sqrt', 'Div', 'Pow', 'Reciprocal'].includes(index.producer(tensor)?.opType ?? '') &&
    index.rank(tensor) !== 4
  );
}

/** H, from the Reshape that splits D channels into heads: its dimensions, or D and the size of a head. */
function headsOf(index: GraphIndex, source: string, operand: string): number | undefined {
  const split = index.consumers(source).find((node) => node.opType === 'Reshape');
  if (!split || operand === source) return undefined;
  const dims = splitDimensions(index, split.input[1]);
  const heads = dims?.at(-2);
  const channels = dims?.at(-1);
  if (dims === undefined || dims.length < 4 || heads === undefined || channels === undefined)
    return undefined;
  if (heads > 0) return heads;
  const all = index.lastDimension(source);
  return all !== undefined && channels > 0 ? all / channels : undefined;
}

/**
 * The number of tokens, where the Reshape that splits the queries' channels into heads has it as a constant.
 */
export function tokensOf(index: GraphIndex, { scores, node }: AttentionNodes): number | undefined {
  const { source } = layout(index, (scores ?? node).input[0]);
  const split = index.consumers(source).find(({ opType }) => opType === 'Reshape');
  const dims = splitDimensions(index, split?.input[1]);
  const tokens = dims?.length === 4 ? dims[1] : undefined;
  return tokens !== undefined && tokens > 0 ? tokens : undefined;
}

/** The dimensions that a Reshape asks for; -1 where they are not known. */
function splitDimensions(index: GraphIndex, shape: string | undefined): readonly number[] | undefined {
  const values = index.values(shape);
  if (values) return values;
  const node = index.producer(shape);
  return node?.opType === 'Concat' ? node.input.flatMap((input) => index.values(input) ?? [-1]) : undefined;
}
