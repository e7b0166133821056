/** Adds the signals that reducers ask for to a vision encoder, as small further outputs. */
import { AttentionTap } from './attention-tap.js';
import { OnnxArgumentError, OnnxStructureError } from './errors.js';
import { GraphEditor } from './graph-editor.js';
import type { OnnxModel } from './model.js';
import { locateEncoder, type VisionEncoder } from './vision-encoder.js';

/**
 * A signal of a vision encoder, float32, for each of B images and N patches (prefix tokens such as CLS left out).
 *
 * - `attentionGiven`, `attentionReceived` [B, N], the mean over the heads' maps A-bar, with the prefix tokens' rows and
 *   columns removed and the rest NOT renormalised, averaged over keys or over queries (FoPru, arXiv 2411.14164, Eq. 2-4).
 * - `classAttention` [B, N], softmax(q_CLS K^T / sqrt(D)) over all tokens as ONE head of all D channels, CLS itself then
 *   left out (PruMerge's official code).
 * - `keys` [B, N, D], the projected keys, heads side by side, without any scale.
 * - `attention` [B, H, S, S], the maps of the H heads themselves, S = N, or N + 1 with CLS first; of several prefix tokens the
 *   last. For whoever reduces them outside the graph: CLIP-L/336 has 21 MB of them a layer.
 * - `attentionShare` [B, L], for each of the L layers present, the share of the attention received that the quarter of the
 *   tokens (rounded up) with the most of it holds (FoPru's Figure 1).
 */
export type VisionSignal =
  'attentionGiven' | 'attentionReceived' | 'classAttention' | 'keys' | 'attention' | 'attentionShare';

/** One signal wanted. */
export interface VisionSignalRequest {
  readonly signal: VisionSignal;
  /** Index in {@link VisionEncoder.layers}. Default `'features'`. `attentionShare` covers all layers and takes none. */
  readonly layer?: 'features' | number;
}

/** What {@link addSignals} returns. */
export interface SignalOutputs {
  /** The model with further outputs. */
  readonly model: OnnxModel;
  /** The output's name for each request; the same for the same request. */
  readonly outputs: string[];
}

const SIGNALS: readonly VisionSignal[] = [
  'attentionGiven',
  'attentionReceived',
  'classAttention',
  'keys',
  'attention',
  'attentionShare',
];

/**
 * The model with the signals as further outputs, computed from what the graph has or, beside a fused attention, from its
 * queries and keys. Everything that was there stays as it is. Only where `attention` is asked for do maps leave the graph.
 *
 * @param model - the model that `encoder` was found in
 * @throws OnnxArgumentError where a request names no signal or no layer of the encoder
 * @throws OnnxStructureError for class attention without a class token, features that keep theirs, or an attention that
 *   cannot be computed from queries and keys alone
 */
export function addSignals(
  model: OnnxModel,
  encoder: VisionEncoder,
  requests: readonly VisionSignalRequest[],
): SignalOutputs {
  if (requests.length === 0) return { model, outputs: [] };
  const layers = requests.map((request, i) => checkRequest(request, i, encoder));
  if (encoder.classToken === 'kept') {
    throw new OnnxStructureError(
      model.file,
      'features of patches alone',
      'a class token among them',
      'Export the model with vision_feature_select_strategy "default".',
    );
  }
  const tap = new SignalTap(model, encoder);
  const made = new Map<string, string>();
  const outputs = requests.map(({ signal }, i) => {
    const layer = layers[i] ?? encoder.featuresLayer;
    const key = signal === 'attentionShare' ? signal : `${signal}@${layer}`;
    const output = made.get(key) ?? tap.output(signal, layer);
    made.set(key, output);
    return output;
  });
  return { model: tap.build(), outputs };
}

function checkRequest({ signal, layer }: VisionSignalRequest, i: number, encoder: VisionEncoder): number {
  if (!SIGNALS.includes(signal)) {
    throw new OnnxArgumentError(`requests[${i}].signal`, signal, `one of ${SIGNALS.join(', ')}`);
  }
  if (layer === undefined || layer === 'features') return encoder.featuresLayer;
  const last = encoder.layers.length - 1;
  if (signal === 'attentionShare' || !Number.isInteger(layer) || layer < 0 || layer > last) {
    const expected =
      signal === 'attentionShare'
        ? "left out or 'features': attentionShare covers all layers"
        : `'features' or one of the ${last + 1} layers that the graph has, 0 to ${last} (an exporter leaves out those that no output needs)`;
    throw new OnnxArgumentError(`requests[${i}].layer`, layer, expected);
  }
  return layer;
}

/** The nodes of the signals. B images, S tokens of which the first `prefixTokens` are no patches, N patches, D channels. */
class SignalTap {
  readonly #encoder: VisionEncoder;
  readonly #editor: GraphEditor;
  readonly #taps: readonly AttentionTap[];
  /** N in float32, once it is needed. [1] */
  #patchCount: string | undefined;

  constructor(model: OnnxModel, encoder: VisionEncoder) {
    const { index, attentions } = locateEncoder(model, { output: encoder.output });
    this.#encoder = encoder;
    this.#editor = new GraphEditor(index);
    this.#taps = attentions.map((attention) => new AttentionTap(this.#editor, attention, encoder.features));
  }

  /** Adds a signal's nodes and makes it an output. */
  output(signal: VisionSignal, layer: number): string {
    const shapes: Record<VisionSignal, (string | number)[]> = {
      attentionGiven: ['batch', 'tokens'],
      attentionReceived: ['batch', 'tokens'],
      classAttention: ['batch', 'tokens'],
      keys: ['batch', 'tokens', 'channels'],
      attention: ['batch', 'heads', 'positions', 'positions'],
      attentionShare: ['batch', this.#taps.length],
    };
    const name = signal === 'attentionShare' ? signal : `${signal}_${layer}`;
    return this.#editor.output(name, this.#compute(signal, layer), shapes[signal]);
  }

  build(): OnnxModel {
    return this.#editor.build();
  }

  #compute(signal: VisionSignal, layer: number): string {
    switch (signal) {
      case 'attentionGiven':
        return this.#marginal(this.#tap(layer), 3);
      case 'attentionReceived':
        return this.#marginal(this.#tap(layer), 2);
      case 'classAttention':
        return this.#classAttention(this.#tap(layer));
      case 'keys':
        return this.#patches(this.#tap(layer).keys());
      case 'attention':
        return this.#map(this.#tap(layer));
      case 'attentionShare':
        return this.#editor.add(
          'Concat',
          this.#taps.map((tap) => this.#share(tap)),
          { axis: 1 },
        );
    }
  }

  #tap(layer: number): AttentionTap {
    const tap = this.#taps.at(layer);
    if (!tap)
      throw new OnnxArgumentError('encoder', `${this.#taps.length} layers`, 'the one found in this model');
    return tap;
  }

  /**
   * Mean of A-bar over queries (axis 2) or keys (axis 3) that are patches, for each patch. [B, N]
   * Two reductions, the tokens' before the heads', read the map once; slicing it first would copy it. So the prefix
   * tokens' rows or columns are summed apart and subtracted; from 1 over the keys, since a softmax's rows sum to it.
   */
  #marginal(tap: AttentionTap, axis: 2 | 3): string {
    const editor = this.#editor;
    const { prefixTokens } = this.#encoder;
    const sum = (map: string): string =>
      editor.toFloat32(editor.reduce('ReduceMean', editor.reduce('ReduceSum', map, axis), 1));
    const map = tap.probabilities(); // [B, H, S, S]
    const prefix = prefixTokens > 0 && sum(editor.slice(map, axis, 0, prefixTokens)); // [B, S]
    const all = prefix && axis === 3 ? editor.float([1]) : sum(map);
    const patches = this.#patches(prefix ? editor.add('Sub', [all, prefix]) : all);
    this.#patchCount ??= editor.toFloat32(editor.length(patches, 1));
    return editor.add('Div', [patches, this.#patchCount]);
  }

  /** The heads' maps, with one prefix token at most. [B, H, S, S] */
  #map(tap: AttentionTap): string {
    const editor = this.#editor;
    const dropped = Math.max(0, this.#encoder.prefixTokens - 1);
    const whole = tap.probabilities();
    return dropped > 0 ? [2, 3].reduce((map, axis) => editor.slice(map, axis, dropped), whole) : whole;
  }

  #classAttention(tap: AttentionTap): string {
    const { model } = this.#editor.index;
    if (this.#encoder.prefixTokens === 0) {
      throw new OnnxStructureError(
        model.file,
        'a class token, which class attention starts from',
        'an encoder without one',
        'Use a method that reads attentionReceived, such as FoPru.',
      );
    }
    const editor = this.#editor;
    const keys = tap.keys(); // [B, S, D]
    const scores = editor.add('MatMul', [tap.query(0), editor.transpose(keys, [0, 2, 1])]); // [B, 1, S]
    const scaled = editor.add('Div', [editor.toFloat32(scores), tap.rootOfLength(keys)]);
    return editor.reshape(editor.slice(editor.softmax(scaled), 2, this.#encoder.prefixTokens), [0, -1]);
  }

  /** Share of the attention received that the most attended quarter of the patches holds. [B, 1] */
  #share(tap: AttentionTap): string {
    const editor = this.#editor;
    const received = this.#marginal(tap, 2);
    const roundedUp = editor.add('Add', [editor.length(received, 1), editor.ints([3])]);
    const quarter = editor.add('Div', [roundedUp, editor.ints([4])]);
    const { values: top } = editor.topK(received, quarter);
    const share = editor.add('Div', [
      editor.reduce('ReduceSum', top, 1),
      editor.reduce('ReduceSum', received, 1),
    ]);
    return editor.reshape(share, [-1, 1]);
  }

  /** `x` [B, S, ...] without the prefix tokens. */
  #patches(x: string): string {
    const { prefixTokens } = this.#encoder;
    return prefixTokens === 0 ? x : this.#editor.slice(x, 1, prefixTokens);
  }
}
