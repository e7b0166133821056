/**
 * The graphs that a vision encoder falls into for a call: signals added, rules built in, cut where the
 * caller's thread decides and at the projector.
 */
import { SignalUnavailableError, UnsupportedReducerError, signalId, type SignalRequest } from '@foveate/core';
import {
  addSignals,
  describeModel,
  findVisionEncoder,
  graphSignals,
  OnnxStructureError,
  pruneEncoder,
  splitAtFeatures,
  splitEncoder,
  type EncoderPruningNames,
  type OnnxModel,
  type SignalRequest as GraphSignal,
  type VisionEncoder,
} from '@foveate/onnx-graph';
import type { VisionRequest } from './api.js';
import { isRuled } from './rules.js';

/** The encoder's output in the layout of transformers.js. */
export const OUTPUT: string = 'image_features';

/** An encoder as the bundle has it. */
export interface EncoderModel {
  /** The graph, its weights left in the bundle's files. */
  readonly model: OnnxModel;
  /** Layers that the encoder was trained with. */
  readonly visionLayers: number;
  /** Patches that the connector folds into one token: 1 where each patch is one. */
  readonly patchesPerToken: number;
}

/** One graph of an encoder. */
export interface EncoderPart {
  readonly model: OnnxModel;
  /** Its input: pixels, or the hidden states of the part before. */
  readonly input: string;
  /** Its output: hidden states of prefix tokens and patches, or features. */
  readonly output: string;
  /** Rows of the output that are no patches. */
  readonly prefixTokens: number;
  readonly signals: readonly { readonly request: SignalRequest; readonly output: string }[];
  /** The rules in it, in their order. */
  readonly prunings: readonly EncoderPruningNames[];
}

/** An encoder in parts, and its projector. */
export interface PatchedEncoder {
  readonly parts: readonly EncoderPart[];
  /**
   * With the name of its input. Null where patches are folded on the way: tokens are reduced behind it.
   */
  readonly projector: { readonly model: OnnxModel; readonly features: string } | null;
  readonly classToken: boolean;
}

/** @throws OnnxGraphError, SignalUnavailableError, UnsupportedReducerError */
export function patchEncoder(
  { model, visionLayers, patchesPerToken }: EncoderModel,
  { sites, signals }: VisionRequest,
): PatchedEncoder {
  if (sites.length === 0 && signals.length === 0 && !isUnderstood(model)) return uncut(model);
  const whole = findVisionEncoder(model, { output: OUTPUT });
  checkSites(whole, sites, patchesPerToken);
  const ruled = sites.filter(isRuled);
  const pruned = pruneEncoder(
    model,
    { output: OUTPUT },
    ruled.map(({ layer, rule }) => {
      refuseWithoutClassToken(whole, rule.score);
      const { signal, parameters } = rule.score;
      return { layer, score: { name: signal.name, ...parameters } };
    }),
  );
  const parts: EncoderPart[] = [];
  const { prunings } = pruned;
  let rest = { ...pruned, first: 0 };
  for (const { layer, signals: read } of sites.slice(ruled.length)) {
    const { encoder, patched, outputs } = withSignals(rest, read, visionLayers);
    const cut = splitEncoder(patched, { output: OUTPUT }, layer - rest.first);
    const { input, prefixTokens } = encoder;
    parts.push({ model: cut.lower, input, output: cut.hidden, prefixTokens, signals: outputs, prunings: [] });
    rest = { model: cut.upper, first: layer, prunings };
  }
  const { encoder, patched, outputs } = withSignals(rest, signals, visionLayers);
  const last = { input: encoder.input, prefixTokens: 0, signals: outputs, prunings };
  const classToken = whole.prefixTokens > 0;
  if (patchesPerToken > 1) {
    return { parts: [{ model: patched, output: OUTPUT, ...last }], projector: null, classToken };
  }
  const { encoder: lower, projector, features } = splitAtFeatures(patched, encoder);
  parts.push({ model: lower, output: features, ...last });
  return { parts, projector: { model: projector, features }, classToken };
}

/** Whether the graph has layers and features that are found by their structure. */
function isUnderstood(model: OnnxModel): boolean {
  try {
    findVisionEncoder(model, { output: OUTPUT });
    return true;
  } catch (error) {
    if (OnnxStructureError.isInstance(error)) return false;
    throw error;
  }
}

/**
 * An encoder of any kind, for methods that read none of its signals: what the language model reads is reduced
 * behind the projector.
 */
function uncut(model: OnnxModel): PatchedEncoder {
  const [{ name: input }] = describeModel(model).inputs;
  const part = { model, input, output: OUTPUT, prefixTokens: 0, signals: [], prunings: [] };
  return { parts: [part], projector: null, classToken: false };
}

/** Adds signals to what is left of an encoder from layer `first` on. */
function withSignals(
  { model, first }: { readonly model: OnnxModel; readonly first: number },
  requests: readonly SignalRequest[],
  visionLayers: number,
): { encoder: VisionEncoder; patched: OnnxModel; outputs: EncoderPart['signals'] } {
  const encoder = findVisionEncoder(model, { output: OUTPUT });
  const wanted = requests.map((request) => graphSignal(request, encoder, first, visionLayers));
  const { model: patched, outputs } = addSignals(model, encoder, wanted);
  return { encoder, patched, outputs: requests.map((request, i) => ({ request, output: outputs[i] })) };
}

/** @throws UnsupportedReducerError where patches cannot be dropped before a site's layer */
function checkSites(
  { featuresLayer }: VisionEncoder,
  sites: VisionRequest['sites'],
  patchesPerToken: number,
): void {
  if (sites.length > 0 && patchesPerToken > 1) {
    throw new UnsupportedReducerError(
      `Nothing can be reduced inside this vision encoder: its connector folds ${patchesPerToken} patches into each token, and needs all of them. Use a method that acts on the features.`,
    );
  }
  const late = sites.find(({ layer }) => layer > featuresLayer);
  if (!late) return;
  throw new UnsupportedReducerError(
    `Nothing can be reduced before layer ${late.layer} of this vision encoder: its features come out of layer ${featuresLayer}. Choose a layer from 1 to ${featuresLayer}.`,
  );
}

function refuseWithoutClassToken({ prefixTokens }: VisionEncoder, request: SignalRequest): void {
  if (!graphSignals.get(request.signal.name)?.needsClassToken || prefixTokens > 0) return;
  throw new SignalUnavailableError(
    signalId(request),
    'this encoder has no class token. Use a method that reads the attention between patches, such as fopru-rank.',
  );
}

/**
 * The request as the graph reads it, from layer `first` on.
 * @throws SignalUnavailableError where the graph cannot give the signal
 */
function graphSignal(
  request: SignalRequest,
  encoder: VisionEncoder,
  first: number,
  visionLayers: number,
): GraphSignal {
  const { signal, layer, parameters } = request;
  const needed = { name: signal.name, ...parameters };
  refuseWithoutClassToken(encoder, request);
  if (typeof layer !== 'number') return layer === undefined ? needed : { ...needed, layer: 'features' };
  const end = first + encoder.layers.length;
  if (layer >= first && layer < end) return { ...needed, layer: layer - first };
  const present = `the graph has the encoder's layers 0 to ${end - 1} of ${visionLayers}, because exports leave out what the features do not need`;
  throw new SignalUnavailableError(signalId(request), `${present}. Use the layer 'features'.`);
}
