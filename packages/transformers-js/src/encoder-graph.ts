/** The graphs that a vision encoder falls into: one up to the features, with signals, and the projector. */
import { SignalUnavailableError, signalId, type SignalRequest } from '@foveate/core';
import {
  addSignals,
  findVisionEncoder,
  graphSignals,
  splitAtFeatures,
  type OnnxModel,
  type SignalRequest as GraphRequest,
  type VisionEncoder,
} from '@foveate/onnx-graph';

/** The encoder's output in the layout of transformers.js. */
export const OUTPUT = 'image_features';

/** An encoder that was cut at its features. */
export interface EncoderGraphs {
  /** Pixels -> `features` and the signals. */
  readonly encoder: OnnxModel;
  /** `features` of any number of tokens -> {@link OUTPUT}. */
  readonly projector: OnnxModel;
  /** Name of the one's output and the other's input. */
  readonly features: string;
  /** Name of the input of pixels. */
  readonly input: string;
  /** The output's name for each request. */
  readonly signals: readonly { readonly request: SignalRequest; readonly output: string }[];
}

/**
 * Cuts an encoder and adds what reducers read. Its weights stay where they are.
 * @param requests of the encoder, by layers that are counted from the start
 * @param trainedLayers layers that the encoder was trained with
 * @throws OnnxGraphError where the graph is no such encoder; SignalUnavailableError where it lacks a signal
 */
export function cutEncoder(
  model: OnnxModel,
  requests: readonly SignalRequest[],
  trainedLayers: number,
): EncoderGraphs {
  const found = findVisionEncoder(model, { output: OUTPUT });
  const wanted = requests.map((request) => graphRequest(request, found, trainedLayers));
  const { model: patched, outputs } = addSignals(model, found, wanted);
  return {
    ...splitAtFeatures(patched, found),
    input: found.input,
    signals: requests.map((request, i) => ({ request, output: outputs[i] })),
  };
}

/** The request as the graph reads it. @throws SignalUnavailableError */
function graphRequest(
  request: SignalRequest,
  { layers, prefixTokens }: VisionEncoder,
  trainedLayers: number,
): GraphRequest {
  const { signal, layer, parameters } = request;
  const needed = { name: signal.name, ...parameters };
  if (graphSignals.get(signal.name)?.needsClassToken && prefixTokens === 0) {
    throw new SignalUnavailableError(
      signalId(request),
      'this encoder has no class token. Use a method that reads the attention between patches, such as fopru-rank.',
    );
  }
  if (typeof layer !== 'number') return layer === undefined ? needed : { ...needed, layer: 'features' };
  if (layer >= 0 && layer < layers.length) return { ...needed, layer };
  const present = `the graph has the encoder's layers 0 to ${layers.length - 1} of ${trainedLayers}, because exports leave out what the features do not need`;
  throw new SignalUnavailableError(signalId(request), `${present}. Use the layer 'features'.`);
}
