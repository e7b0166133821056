/**
 * Takes the probabilities, keys and queries of an attention out of the graph or, where a fused operator hides
 * them, computes them beside it.
 */
import { BIAS_INPUT } from './attention-bias.js';
import { layout, type AttentionNodes } from './attention.js';
import { OnnxStructureError } from './errors.js';
import type { GraphEditor } from './graph-editor.js';
import { attribute, describeNode, FLOATS } from './graph-index.js';

/**
 * Where the tensors of one attention come out of the graph. All of it is added once, however often it is
 * asked for.
 */
export class AttentionTap {
  readonly #editor: GraphEditor;
  readonly #attention: AttentionNodes;
  readonly #batch: string | null;
  readonly #made = new Map<string, string>();

  /** @param batch - a tensor whose first axis is the batch; null where the tokens of one image come without it */
  constructor(editor: GraphEditor, attention: AttentionNodes, batch: string | null) {
    this.#editor = editor;
    this.#attention = attention;
    this.#batch = batch;
  }

  /** Softmax(scale * Q K^T) as the graph computes it. [B, H, S, S] */
  probabilities(): string {
    return this.#once('probabilities', () => {
      const { form, node } = this.#attention;
      if (form === 'softmax') return this.#splitHeads(node.output[0] ?? '');
      const editor = this.#editor;
      const query = editor.toFloat32(this.#toHeads(this.#projection('query'), [0, 2, 1, 3]));
      const keys = editor.toFloat32(this.#toHeads(this.#projection('key'), [0, 2, 3, 1]));
      // The queries are scaled and not the scores, of which there are many times more.
      const scale = attribute(node, 'scale')?.f ?? 0;
      const scaled =
        scale === 0
          ? editor.add('Div', [query, this.rootOfLength(query)])
          : editor.add('Mul', [query, editor.float([scale])]);
      const scores = editor.add('MatMul', [scaled, keys]);
      const bias = node.input[BIAS_INPUT[form]] ?? '';
      return editor.softmax(bias === '' ? scores : editor.add('Add', [scores, editor.toFloat32(bias)]));
    });
  }

  /** Keys of all tokens, heads side by side [B, S, D]; averaged over heads [B, S, d]. */
  keys(averaged: boolean = false): string {
    return this.#rows('key', averaged);
  }

  /** Queries of all tokens, heads side by side [B, S, D]; averaged over heads [B, S, d]. */
  queries(averaged: boolean = false): string {
    return this.#rows('query', averaged);
  }

  /** Query of one token, heads side by side. [B, 1, D] */
  query(token: number): string {
    return this.#once(`query ${token}`, () => this.#flat('query', token));
  }

  /** Square root of the length of the last axis of `x`, as a float32 vector of one. */
  rootOfLength(x: string): string {
    return this.#editor.add('Sqrt', [this.#editor.toFloat32(this.#editor.length(x, -1))]);
  }

  #rows(which: 'query' | 'key', averaged: boolean): string {
    const joined = this.#once(which, () => this.#flat(which));
    return averaged ? this.#once(`mean ${which}`, () => this.#meanOfHeads(joined)) : joined;
  }

  #once(what: string, make: () => string): string {
    const made = this.#made.get(what) ?? make();
    this.#made.set(what, made);
    return made;
  }

  /** [B, S, H * d] -> [B, S, d] */
  #meanOfHeads(x: string): string {
    const { heads } = this.#attention;
    if (heads === undefined) throw this.#unsupported('no number of heads');
    return this.#editor.reduce('ReduceMean', this.#editor.reshape(x, [0, 0, heads, -1]), 2);
  }

  /** [B, S, D] of queries or keys, one token of them where `token` says which. */
  #flat(which: 'query' | 'key', token?: number): string {
    const { form } = this.#attention;
    if (form === 'softmax') return this.#unscaled(which, token);
    const projection = this.#projection(which);
    const one = (x: string, axis: number): string =>
      token === undefined ? x : this.#editor.slice(x, axis, token, token + 1);
    if (this.#isFlat(projection)) return one(projection, 1);
    return this.#mergeHeads(one(projection, 2), [0, 2, 1, 3]);
  }

  /**
   * From the operands of the written-out product, with the scales that were multiplied into them taken out
   * again.
   */
  #unscaled(which: 'query' | 'key', token?: number): string {
    const { scores } = this.#attention;
    const editor = this.#editor;
    const { index } = editor;
    const set = (name: string): boolean => Number(scores && (attribute(scores, name)?.i ?? 0)) !== 0;
    // onnxruntime's FusedMatMul can turn its operands' axes itself.
    for (const name of ['transA', 'transBatchA', 'transBatchB']) {
      if (set(name)) throw this.#unsupported(`"${name}" in its product of queries and keys`);
    }
    const operand = scores?.input[which === 'query' ? 0 : 1] ?? '';
    const isTransposed = which === 'key' && !set('transB');
    const { unscaled, scales } = layout(index, operand);
    let x = this.#splitHeads(unscaled); // [B, H, S, d], or [B, H, d, S] where it is transposed
    if (token !== undefined) x = editor.slice(x, 2, token, token + 1);
    for (const { opType, by } of scales) {
      x = editor.add(opType === 'Mul' ? 'Div' : 'Mul', [x, by]);
    }
    return this.#mergeHeads(x, isTransposed ? [0, 3, 1, 2] : [0, 2, 1, 3]);
  }

  /** Input of a fused operator with its weights and bias applied: [B, S, D] or [B, H, S, d]. */
  #projection(which: 'query' | 'key'): string {
    return this.#once(`projected ${which}`, () => {
      const { form, node } = this.#attention;
      const editor = this.#editor;
      const part = which === 'query' ? 0 : 1;
      this.#refuseMasks();
      if (form === 'ai.onnx.Attention') return node.input[part] ?? '';
      const isPacked = form === 'com.microsoft.Attention';
      const channels = isPacked ? this.#packedChannels() : editor.index.lastDimension(node.input[3] ?? '');
      const x = isPacked
        ? editor.add('MatMul', [node.input[0] ?? '', this.#part(node.input[1] ?? '', 1, part, channels)])
        : (node.input[part] ?? '');
      const bias = node.input[isPacked ? 2 : 3] ?? '';
      if (bias === '') return x;
      return editor.add('Add', [x, this.#part(bias, 0, part, isPacked ? channels : third(channels))]);
    });
  }

  /** The queries' or keys' part of packed weights or biases. */
  #part(packed: string, axis: number, part: number, channels: number | undefined): string {
    if (channels === undefined) throw this.#unsupported('packed weights of unknown size');
    return this.#editor.slice(packed, axis, part * channels, (part + 1) * channels);
  }

  /** D of com.microsoft.Attention: its weights are [Din, 3 D] unless it states other sizes. */
  #packedChannels(): number | undefined {
    const { node } = this.#attention;
    const sizes = attribute(node, 'qkv_hidden_sizes')?.ints;
    if (sizes !== undefined && sizes.length > 0) return Number(sizes[0]);
    return third(this.#editor.index.lastDimension(node.input[1]));
  }

  /**
   * [B, S, D] -> [B, H, S, d] or, with perm [0, 2, 3, 1], [B, H, d, S]; what has its heads split stays split.
   */
  #toHeads(x: string, perm: readonly number[]): string {
    const editor = this.#editor;
    if (!this.#isFlat(x)) return perm[2] === 3 ? editor.transpose(x, [0, 1, 3, 2]) : x;
    const { heads } = this.#attention;
    if (heads === undefined) throw this.#unsupported('no number of heads');
    return editor.transpose(editor.reshape(x, [0, 0, heads, -1]), perm);
  }

  /** [B, H, S, d] (or as `perm` says) -> [B, S, H * d] */
  #mergeHeads(x: string, perm: readonly number[]): string {
    return this.#editor.reshape(this.#editor.transpose(x, perm), [0, 0, -1]);
  }

  /** [B * H, ...] -> [B, H, ...], B = 1 where there is no batch; four dimensions stay as they are. */
  #splitHeads(x: string): string {
    const editor = this.#editor;
    const rank = editor.index.rank(x);
    if (rank === 4) return x;
    if (rank !== 3) throw this.#unsupported(`a map of ${rank ?? 'an unknown number of'} dimensions`);
    const lastTwo = editor.slice(editor.add('Shape', [x]), 0, 1);
    const batch = this.#batch === null ? editor.ints([1]) : editor.length(this.#batch, 0);
    const shape = editor.add('Concat', [batch, editor.ints([-1]), lastTwo], { axis: 0 });
    return editor.add('Reshape', [x, shape]);
  }

  /** Whether a fused operator's query or key is [B, S, D] and not yet split into heads. */
  #isFlat(x: string): boolean {
    return this.#attention.form !== 'ai.onnx.Attention' || this.#editor.index.rank(x) === 3;
  }

  /** The scores are computed beside a fused operator from queries and keys alone. */
  #refuseMasks(): void {
    const masks = {
      'ai.onnx.Attention': [4, 5, 6],
      'com.microsoft.Attention': [3, 4, 6],
      'com.microsoft.MultiHeadAttention': [4, 6, 7],
    };
    const { form, node } = this.#attention;
    if (form === 'softmax') return;
    if (masks[form].some((i) => (node.input[i] ?? '') !== '')) throw this.#unsupported('a mask or a cache');
    const bias = node.input[BIAS_INPUT[form]] ?? '';
    if (bias !== '' && !FLOATS.has(this.#editor.index.elementType(bias) ?? 0))
      throw this.#unsupported('a mask that is not added to its scores');
    for (const name of ['is_causal', 'unidirectional', 'do_rotary']) {
      if (Number(attribute(node, name)?.i ?? 0) !== 0) throw this.#unsupported(`"${name}"`);
    }
    if ((attribute(node, 'softcap')?.f ?? 0) !== 0) throw this.#unsupported('"softcap"');
    if (form === 'com.microsoft.MultiHeadAttention' && (node.input[1] ?? '') === '') {
      throw this.#unsupported('packed queries and keys');
    }
  }

  #unsupported(what: string): OnnxStructureError {
    return new OnnxStructureError(
      this.#editor.index.model.file,
      'an encoder attention whose scores can be computed from its queries and keys',
      `${describeNode(this.#attention.node)} with ${what}`,
      'Export the model with eager attention (MatMul, Softmax, MatMul).',
    );
  }
}

/** A third of the channels of queries, keys and values packed side by side. */
function third(length: number | undefined): number | undefined {
  return length === undefined ? undefined : length / 3;
}
