/**
 * One layer of a vision encoder, as signals read it: B images, S tokens of which the first are no patches, N
 * patches, D channels, H heads.
 */
import type { AttentionTap } from '../attention-tap.js';
import { OnnxStructureError } from '../errors.js';
import type { GraphEditor } from '../graph-editor.js';

/** What the providers of signals build on. */
export class LayerTap {
  readonly editor: GraphEditor;
  /** Tokens before the first patch: 1 for CLS, 0 for none. */
  readonly prefixTokens: number;
  readonly attention: AttentionTap;
  #patchCount: string | undefined;

  constructor(editor: GraphEditor, prefixTokens: number, attention: AttentionTap) {
    this.editor = editor;
    this.prefixTokens = prefixTokens;
    this.attention = attention;
  }

  /**
   * Mean of the heads' maps over queries (axis 2) or keys (axis 3) that are patches, for each patch. [B, N]
   * Two reductions, the tokens' before the heads', read the map once; slicing it first would copy it. So the
   * prefix tokens' rows or columns are summed apart and subtracted; from 1 over the keys, since a softmax's
   * rows sum to it.
   */
  marginal(axis: 2 | 3): string {
    const { editor, prefixTokens } = this;
    const sum = (map: string): string =>
      editor.toFloat32(editor.reduce('ReduceMean', editor.reduce('ReduceSum', map, axis), 1));
    const map = this.attention.probabilities(); // [B, H, S, S]
    const prefix = prefixTokens > 0 && sum(editor.slice(map, axis, 0, prefixTokens)); // [B, S]
    const all = prefix && axis === 3 ? editor.float([1]) : sum(map);
    const patches = this.patches(prefix ? editor.add('Sub', [all, prefix]) : all);
    this.#patchCount ??= editor.toFloat32(editor.length(patches, 1));
    return editor.add('Div', [patches, this.#patchCount]);
  }

  /** Mean of the heads' maps over ALL queries, prefix tokens' too, for each patch. [B, N] */
  receivedFromAll(): string {
    const { editor } = this;
    const map = this.attention.probabilities(); // [B, H, S, S]
    return this.patches(
      editor.toFloat32(editor.reduce('ReduceMean', editor.reduce('ReduceMean', map, 2), 1)),
    );
  }

  /** `x` [B, S, ...] without the prefix tokens. */
  patches(x: string): string {
    return this.prefixTokens === 0 ? x : this.editor.slice(x, 1, this.prefixTokens);
  }

  /** @throws OnnxStructureError where the encoder has no class token */
  requireClassToken(): void {
    if (this.prefixTokens > 0) return;
    throw new OnnxStructureError(
      this.editor.index.model.file,
      'a class token, which class attention starts from',
      'an encoder without one',
      'Use a method that reads attentionReceived, such as FoPru.',
    );
  }
}
