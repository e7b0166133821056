/** Finds the layers of a decoder in a graph by its structure, in the layout that transformers.js reads. */
import type { NodeProto } from 'onnx-buf';
import { findAttentions, type AttentionForm, type AttentionNodes } from './attention.js';
import { withCacheBranch } from './cache-branch.js';
import { strand } from './dominators.js';
import { OnnxStructureError } from './errors.js';
import { attribute, GraphIndex, operatorName, tensorShape } from './graph-index.js';
import type { OnnxModel } from './model.js';

/** Input: the tokens [B, S, D]. */
const EMBEDDINGS = 'inputs_embeds';
/** Input: which tokens count, cached ones first. [B, P + S] */
export const MASK = 'attention_mask';
/** Input: positions [B, S], or [3, B, S] where they have three dimensions (M-RoPE). */
export const POSITIONS = 'position_ids';
/** Output: logits [B, S, V]. */
const LOGITS = 'logits';
/** Inputs that hold what the layers of hybrid decoders keep: past_conv.0, past_recurrent.0 ... */
const STATE = /^past_(?!key_values\.\d+\.(?:key|value)$)/;
/** The fused operator with grouped keys. */
const GROUP_QUERY = 'com.microsoft.GroupQueryAttention';

/** How the attention of a decoder layer is written. */
export type DecoderAttentionForm =
  Extract<AttentionForm, 'softmax' | 'ai.onnx.Attention'> | 'com.microsoft.GroupQueryAttention';

/** One layer of a decoder. */
export interface DecoderLayer {
  readonly form: DecoderAttentionForm;
  /** Heads that keys and values have; queries may have a multiple of it. */
  readonly kvHeads: number;
  /** Channels of one head. */
  readonly headDim: number;
  /**
   * The tensors [B, S, D] that carry the hidden state into the layer: one, or two where the node that adds
   * the residual also normalises it.
   */
  readonly entry: readonly string[];
}

/**
 * A decoder: inputs_embeds, attention_mask, [position_ids], past_key_values.{i}.{key,value} -> logits,
 * present.{i}.{key,value}. Where `use_cache_branch` chooses between branches of an If, as in decoders that Optimum
 * merged, it is the branch for a filled cache: one patched here has no such input, and runs prompts through that
 * branch too.
 */
export interface Decoder {
  /** In order, from the embeddings on. */
  readonly layers: readonly DecoderLayer[];
  /**
   * Whether `position_ids` is an input; without it GroupQueryAttention rotates by the position in the cache.
   */
  readonly hasPositions: boolean;
}

/**
 * Layers of a decoder from one on, by what they read: a decoder has one such stretch, and one more for each
 * place where it was pruned or cut.
 */
export interface Stretch {
  /** The first of the layers; those before it are another stretch's. */
  readonly first: number;
  /** The tensors [B, S, D] that enter it: one, or two where the second is the first normalised. */
  readonly hidden: readonly string[];
  /** [B, P + S] */
  readonly mask: string;
  /** [B, S], or [3, B, S]; null where GroupQueryAttention counts from the cache on. */
  readonly positions: string | null;
  /** Outputs of the graph that belong to earlier stretches. */
  readonly earlier: ReadonlySet<string>;
}

/** A stretch of a decoder with its nodes. */
export interface DecoderNodes {
  readonly index: GraphIndex;
  readonly stretch: Stretch;
  /** By number of the layer. */
  readonly layers: ReadonlyMap<number, DecoderLayer>;
  /** By number of the layer. */
  readonly attentions: ReadonlyMap<number, DecoderAttention>;
  /** Layers of the decoder, those of earlier stretches included. */
  readonly end: number;
}

/** An attention that is written out, or the fused node. */
export type DecoderAttention =
  | { readonly form: 'softmax'; readonly nodes: AttentionNodes }
  | { readonly form: Exclude<DecoderAttentionForm, 'softmax'>; readonly node: NodeProto };

/**
 * Finds the layers of a decoder.
 *
 * @throws OnnxStructureError where an input or output of the layout is missing, a layer has no attention of a
 * known form, or rotary positions are computed inside the graph in a form that cannot be given gaps
 */
export function findDecoder(model: OnnxModel): Decoder {
  const { layers, stretch } = locateDecoder(model);
  return { layers: [...layers.values()], hasPositions: stretch.positions !== null };
}

/** {@link findDecoder}, with the nodes. */
export function locateDecoder(model: OnnxModel): DecoderNodes {
  const index = new GraphIndex(withCacheBranch(model));
  checkLayout(index);
  const hasPositions = index.inputs.some(({ name }) => name === POSITIONS);
  return locateStretch(index, {
    first: 0,
    hidden: [EMBEDDINGS],
    mask: MASK,
    positions: hasPositions ? POSITIONS : null,
    earlier: new Set(),
  });
}

/** The layers of a stretch, found in the graph. */
export function locateStretch(index: GraphIndex, stretch: Stretch): DecoderNodes {
  const { model } = index;
  const attentions = locateAttentions(index, stretch);
  const end = stretch.first + attentions.size;
  if (stretch.positions === null && [...attentions.values()].some(({ form }) => form !== GROUP_QUERY)) {
    throw new OnnxStructureError(
      model.file,
      `the input "${POSITIONS}"`,
      'none, and attention that leaves positions to others',
      'Export the decoder with position_ids as an input: pruned prompts have gaps in them.',
    );
  }
  const line = strand(index, stretch.hidden, LOGITS);
  const layers = new Map<number, DecoderLayer>();
  for (const [i, attention] of attentions) {
    const [, kvHeads, , headDim] = tensorShape(index.valueInfo(pastName(i, 'key'))) ?? [];
    if (typeof kvHeads !== 'number' || typeof headDim !== 'number') {
      throw new OnnxStructureError(
        model.file,
        `the shape [batch, heads, length, channels] of "${pastName(i, 'key')}"`,
        'no fixed number of heads and channels',
        'Export the decoder with fixed heads and channels.',
      );
    }
    const entry = entryOf(index, stretch, line, attention);
    layers.set(i, { form: attention.form, kvHeads, headDim, entry });
  }
  return { index, stretch, attentions, layers, end };
}

/** Name of a cache input. */
export function pastName(layer: number, part: 'key' | 'value'): string {
  return `past_key_values.${layer}.${part}`;
}

/** Name of a cache output. */
export function presentName(layer: number, part: 'key' | 'value'): string {
  return `present.${layer}.${part}`;
}

/** The layers from `first` on whose caches are inputs. */
function cachedLayers(index: GraphIndex, first: number): number[] {
  const inputs = new Set(index.inputs.map(({ name }) => name));
  const layers: number[] = [];
  for (let layer = first; inputs.has(pastName(layer, 'key')); layer++) layers.push(layer);
  return layers;
}

/** Whether inputs and outputs are those of the layout. */
function checkLayout(index: GraphIndex): void {
  const inputs = new Set(index.inputs.map(({ name }) => name));
  const state = [...inputs].find((name) => STATE.test(name));
  if (state !== undefined) {
    throw new OnnxStructureError(
      index.model.file,
      'a decoder whose layers keep keys and values only',
      `the input "${state}" of a hybrid one`,
      'What such layers keep holds something of every token: drop tokens before the decoder.',
    );
  }
  const outputs = new Set(index.model.graph.output.map(({ name }) => name));
  const layers = cachedLayers(index, 0);
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
}

/** A layer's attention is the first in the graph's order that its cached keys flow into. */
function locateAttentions(
  index: GraphIndex,
  { first, hidden }: Stretch,
): ReadonlyMap<number, DecoderAttention> {
  const flow = index.dependents(hidden);
  const found = new Map(findAttentions(index, flow).map((nodes) => [nodes.node, nodes]));
  const used = new Set<NodeProto>();
  const attentionOf = (layer: number): DecoderAttention => {
    const cached = index.dependents([pastName(layer, 'key')]);
    for (const node of index.nodes) {
      const attention = decoderAttention(node, found.get(node));
      if (!attention || used.has(node) || !node.input.some((input) => cached.has(input))) continue;
      used.add(node);
      return attention;
    }
    throw new OnnxStructureError(
      index.model.file,
      `the attention that reads "${pastName(layer, 'key')}"`,
      'none written as MatMul, Softmax, MatMul, as ai.onnx.Attention or as com.microsoft.GroupQueryAttention',
      'Export the decoder with eager attention, or with the model builder of onnxruntime-genai.',
    );
  };
  return new Map(cachedLayers(index, first).map((layer) => [layer, attentionOf(layer)]));
}

/** The node as an attention of a decoder; undefined where it is none. */
function decoderAttention(node: NodeProto, found: AttentionNodes | undefined): DecoderAttention | undefined {
  if (found?.form === 'softmax') return { form: 'softmax', nodes: found };
  if (found?.form === 'ai.onnx.Attention') return { form: 'ai.onnx.Attention', node };
  return operatorName(node) === GROUP_QUERY ? { form: GROUP_QUERY, node } : undefined;
}

/** What the last node that all paths into the attention go through puts out: the sum of residuals. */
function entryOf(
  index: GraphIndex,
  { hidden }: Stretch,
  line: readonly NodeProto[],
  attention: DecoderAttention,
): readonly string[] {
  const target = attention.form === 'softmax' ? attention.nodes.node : attention.node;
  const upstream = new Set(index.ancestors(target.output));
  const last = line.findLast((node) => node !== target && upstream.has(node));
  if (!last) return hidden;
  return last.output.filter((name) => name !== '' && index.consumers(name).length > 0);
}

/** Whether a GroupQueryAttention rotates its queries and keys itself. */
export function rotatesItself(node: NodeProto): boolean {
  return operatorName(node) === GROUP_QUERY && Number(attribute(node, 'do_rotary')?.i ?? 0) !== 0;
}
