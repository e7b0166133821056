/** One layer of a decoder, as signals read it: S tokens that are run, V visual ones and T of the question. */
import { entryOf } from '../decoder-parts.js';
import { presentName, type DecoderNodes } from '../decoder.js';
import { finalNorm } from '../final-norm.js';
import type { GraphEditor } from '../graph-editor.js';
import { hiddenState } from '../graph-parts.js';
import { attentionRows, promptAttention, type PromptRows } from '../prompt-attention.js';

/** Names of the tensors that say which tokens are which. */
export interface TokenTensors {
  /** Places [V] of the visual tokens among the S, ascending. */
  readonly visual: string;
  /** [1] T: the question's tokens are the last. */
  readonly question: string;
  /** [1, S] */
  readonly positions: string;
}

/** What the providers of signals build on. */
export class DecoderTap {
  readonly editor: GraphEditor;
  readonly #decoder: DecoderNodes;
  readonly #layer: number;
  readonly #isNext: boolean;
  readonly #tokens: TokenTensors;

  /** @param isNext whether the layer is behind the cut, so that only its attention can be had */
  constructor(
    editor: GraphEditor,
    decoder: DecoderNodes,
    layer: number,
    isNext: boolean,
    tokens: TokenTensors,
  ) {
    this.editor = editor;
    this.#decoder = decoder;
    this.#layer = layer;
    this.#isNext = isNext;
    this.#tokens = tokens;
  }

  /** The rows of the visual tokens in `x` [1, S, ...]. [1, V, ...] */
  visual(x: string, axis: number = 1): string {
    return this.editor.add('Gather', [x, this.#tokens.visual], { axis });
  }

  /** The rows of the question's tokens in `x` [1, S, ...]. [1, T, ...] */
  question(x: string): string {
    return this.editor.last(x, 1, this.#tokens.question);
  }

  /** Attention of the question to all tokens that are run, mean over heads. [1, T, S] */
  questionAttention(): string {
    const { question, positions } = this.#tokens;
    const { editor } = this;
    const map = attentionRows(editor, this.#decoder, this.#layer, question, positions, this.#isNext);
    return editor.reduce('ReduceMean', editor.last(map, 3, this.#count()), 1);
  }

  /** Attention of the text behind the last visual token to all tokens that are run. [1, S] */
  promptAttention(rows: PromptRows): string {
    const { visual, positions } = this.#tokens;
    return promptAttention(this.editor, this.#decoder, this.#layer, rows, visual, positions, this.#isNext);
  }

  /** The sum of residuals that the layer reads, as the graph has it. [1, S, D] */
  read(): string {
    return this.#hiddenBefore(this.#layer);
  }

  /** The sum of residuals that the layer puts out, as the graph has it. [1, S, D] */
  written(): string {
    return this.#hiddenBefore(this.#layer + 1);
  }

  /** Rows [1, any, D] of hidden states behind the normalisation before the head. */
  normalized(rows: string): string {
    return finalNorm(this.editor, this.#decoder, rows);
  }

  /** Keys of the tokens that are run, rotated, as they are cached. [1, kvHeads, S, d] */
  keys(): string {
    return this.editor.last(presentName(this.#layer, 'key'), 2, this.#count());
  }

  #hiddenBefore(layer: number): string {
    return hiddenState(this.#decoder.index, entryOf(this.#decoder, layer), layer);
  }

  /** S */
  #count(): string {
    return this.editor.length(this.#decoder.stretch.hidden[0], 1);
  }
}
