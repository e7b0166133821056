/** How a signal is provided inside a vision encoder's graph. */
import type { ParameterChoices } from './check-parameters.js';
import type { LayerTap } from './layer-tap.js';

/** One signal wanted: its name, its layer, and its further parameters. */
export interface SignalRequest {
  /** The name of a {@link GraphSignal}. */
  readonly name: string;
  /**
   * Index in the encoder's `layers`, or the layer that made the features. Default `'features'`. A signal of
   * all layers takes none.
   */
  readonly layer?: 'features' | number;
  /** The signal's parameters, e.g. `heads: 'mean'`. */
  readonly [parameter: string]: string | number | undefined;
}

/** The provider of one signal, float32, for each of B images. */
export interface GraphSignal {
  readonly name: string;
  /** Of one layer, or of all of them together. */
  readonly of: 'layer' | 'encoder';
  /** [B, ...] with a name for each free dimension; `layers` is the number of layers. */
  readonly shape: readonly string[];
  /** Further parameters: for each the values it takes, the default first. */
  readonly parameters?: ParameterChoices;
  /** Whether it starts from a class token, so that an encoder without one cannot give it. */
  readonly needsClassToken?: boolean;
  /**
   * Adds its nodes.
   * @param taps the one layer, or all of them
   * @returns the tensor's name
   * @throws OnnxStructureError where the encoder cannot give it
   */
  add(taps: readonly LayerTap[], parameters: Readonly<Record<string, string>>): string;
}
