/** How a signal of a layer is provided inside a decoder's graph. */
import type { ParameterChoices } from '../signals/check-parameters.js';
import type { DecoderTap } from './decoder-tap.js';

/** One signal wanted of a layer: its name, and its further parameters. */
export interface DecoderSignalRequest {
  /** The name of a {@link DecoderSignal}. */
  readonly name: string;
  /** Counted from the start. */
  readonly layer: number;
  /** The signal's parameters, e.g. `rows: 'mean'`. */
  readonly [parameter: string]: string | number;
}

/** The provider of one signal, float32, the batch 1. */
export interface DecoderSignal {
  readonly name: string;
  /** [1, ...] with a name for each free dimension: `visual` and `question` tokens, `channels`. */
  readonly shape: readonly ('visual' | 'question' | 'channels')[];
  readonly parameters?: ParameterChoices;
  /**
   * Whether it can be had of the layer behind a cut too, before the cut: by that layer's normalisation and
   * projections of the tokens as they are there.
   */
  readonly ofNextLayer?: boolean;
  /**
   * Adds its nodes.
   * @returns the tensor's name
   * @throws OnnxStructureError where the decoder cannot give it
   */
  add(tap: DecoderTap, parameters: Readonly<Record<string, string>>): string;
}
