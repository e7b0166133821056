/** Finds the layers of a decoder in a graph by its structure, in the layout that transformers.js reads. */
import type { NodeProto } from 'onnx-buf';
import { findAttentions, type AttentionForm, type AttentionNodes } from './attention.js';
import { strand } from './dominators.js';
import { OnnxStructureError } from './errors.js';
import { attribute, GraphIndex, operatorName, tensorShape } from './graph-index.js';
import type { OnnxModel } from './model.js';

/** Input: the tokens [B, S, D]. */
export const EMBEDDINGS = 'inputs_embeds';
/** Input: which tokens count, cached ones first. [B, P + S] */
export const MASK = 'attention_mask';
/** Input: positions [B, S]. */
export const POSITIONS = 'position_ids';
/** Output: logits [B, S, V]. */
const LOGITS = 'logits';
/** The fused operator with grouped keys. */
const GROUP_QUERY = 'com.microsoft.GroupQueryAttention';

/** How the attention of a decoder layer is written. */
export type DecoderAttentionForm = Extract<AttentionForm, 'softmax'> | 'com.microsoft.GroupQueryAttention';

/** One layer of a decoder. */
export interface DecoderLayer {
  readonly form: DecoderAttentionForm;
  /** Heads that keys and values have; queries may have a multiple of it. */
  readonly kvHeads: number;
  /** Channels of one head. */
  readonly headDim: number;
  /**
   * The tensors [B, S, D] that carry the hidden state into the layer: one, or two where the node that adds the residual
   * also normalises it.
   */
  readonly entry: readonly string[];
}

/** A decoder: inputs_embeds, attention_mask, [position_ids], past_key_values.{i}.{key,value} -> logits, present.{i}.{key,value}. */
export interface Decoder {
  /** In order, from the embeddings on. */
  readonly layers: readonly DecoderLayer[];
  /** Whether `position_ids` is an input; without it GroupQueryAttention rotates by the position in the cache. */
  readonly hasPositions: boolean;
}

/** The attention nodes of `decoder.layers`. */
export interface DecoderNodes extends Decoder {
  readonly index: GraphIndex;
  readonly attentions: readonly DecoderAttention[];
}

/** An attention that is written out, or the fused node. */
type DecoderAttention =
  | { readonly form: 'softmax'; readonly nodes: AttentionNodes }
  | { readonly form: 'com.microsoft.GroupQueryAttention'; readonly node: NodeProto };

/**
 * Finds the layers of a decoder.
 *
 * @throws OnnxStructureError where an input or output of the layout is missing, a layer has no attention of a known form,
 * or rotary positions are computed inside the graph in a form that cannot be given gaps
 */
export function findDecoder(model: OnnxModel): Decoder {
  const { layers, hasPositions } = locateDecoder(model);
  return { layers, hasPositions };
}

/** {@link findDecoder}, with the nodes. */
export function locateDecoder(model: OnnxModel): DecoderNodes {
  const index = new GraphIndex(model);
  const count = checkLayout(index);
  const hasPositions = index.inputs.some(({ name }) => name === POSITIONS);
  const attentions = locateAttentions(index, count);
  if (!hasPositions && attentions.some(({ form }) => form === 'softmax')) {
    throw new OnnxStructureError(
      model.file,
      `the input "${POSITIONS}"`,
      'none, and attention that is written out',
      'Export the decoder with position_ids as an input: pruned prompts have gaps in them.',
    );
  }
  const line = strand(index, EMBEDDINGS, LOGITS);
  const layers = attentions.map((attention, i) => {
    const [, kvHeads, , headDim] = tensorShape(index.valueInfo(pastName(i, 'key'))) ?? [];
    if (typeof kvHeads !== 'number' || typeof headDim !== 'number') {
      throw new OnnxStructureError(
        model.file,
        `the shape [batch, heads, length, channels] of "${pastName(i, 'key')}"`,
        'no fixed number of heads and channels',
        'Export the decoder with fixed heads and channels.',
      );
    }
    return { form: attention.form, kvHeads, headDim, entry: entryOf(index, line, attention) };
  });
  return { index, attentions, layers, hasPositions };
}

/** Name of a cache input. */
export function pastName(layer: number, part: 'key' | 'value'): string {
  return `past_key_values.${layer}.${part}`;
}

/** Name of a cache output. */
export function presentName(layer: number, part: 'key' | 'value'): string {
  return `present.${layer}.${part}`;
}

/** The number of layers, if inputs and outputs are those of the layout. */
function checkLayout(index: GraphIndex): number {
  const inputs = new Set(index.inputs.map(({ name }) => name));
  const outputs = new Set(index.model.graph.output.map(({ name }) => name));
  let count = 0;
  while (inputs.has(pastName(count, 'key'))) count++;
  const layers = Array.from({ length: count }, (_, i) => i);
  const wanted = [EMBEDDINGS, MASK, pastName(0, 'key'), ...layers.map((i) => pastName(i, 'value'))].filter(
    (name) => !inputs.has(name),
  );
  const missing = [
    ...wanted.map((name) => `the input "${name}"`),
    ...[LOGITS, ...layers.flatMap((i) => [presentName(i, 'key'), presentName(i, 'value')])]
      .filter((name) => !outputs.has(name))
      .map((name) => `the output "${name}"`),
  ];
  if (missing.length > 0) {
    throw new OnnxStructureError(
      index.model.file,
      `${missing[0]} of a decoder`,
      `the inputs ${[...inputs].join(', ') || 'none'} and the outputs ${[...outputs].join(', ')}`,
      'Name the file that transformers.js calls decoder_model_merged.onnx.',
    );
  }
  return count;
}

/** A layer's attention is the first in the graph's order that its cached keys flow into. */
function locateAttentions(index: GraphIndex, layers: number): DecoderAttention[] {
  const flow = index.dependents([EMBEDDINGS]);
  const writtenOut = new Map(
    findAttentions(index, flow)
      .filter(({ form }) => form === 'softmax')
      .map((nodes) => [nodes.node, nodes]),
  );
  const used = new Set<NodeProto>();
  return Array.from({ length: layers }, (_, layer) => {
    const cached = index.dependents([pastName(layer, 'key')]);
    for (const node of index.nodes) {
      const nodes = writtenOut.get(node);
      if (!nodes && operatorName(node) !== GROUP_QUERY) continue;
      if (used.has(node) || !node.input.some((input) => cached.has(input))) continue;
      used.add(node);
      return nodes ? { form: 'softmax', nodes } : { form: GROUP_QUERY, node };
    }
    throw new OnnxStructureError(
      index.model.file,
      `the attention that reads "${pastName(layer, 'key')}"`,
      'none written as MatMul, Softmax, MatMul or as com.microsoft.GroupQueryAttention',
      'Export the decoder with eager attention, or with the model builder of onnxruntime-genai.',
    );
  });
}

/** What the last node that all paths into the attention go through puts out: the sum of residuals. */
function entryOf(index: GraphIndex, line: readonly NodeProto[], attention: DecoderAttention): string[] {
  const target = attention.form === 'softmax' ? attention.nodes.node : attention.node;
  const upstream = new Set(index.ancestors(target.output));
  const last = line.findLast((node) => node !== target && upstream.has(node));
  if (!last) return [EMBEDDINGS];
  return last.output.filter((name) => name !== '' && index.consumers(name).length > 0);
}

/** Whether a GroupQueryAttention rotates its queries and keys itself. */
export function rotatesItself(node: NodeProto): boolean {
  return operatorName(node) === GROUP_QUERY && Number(attribute(node, 'do_rotary')?.i ?? 0) !== 0;
}
