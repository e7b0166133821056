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
  mergeEncoder,
  OnnxStructureError,
  pruneEncoder,
  splitAtFeatures,
  splitEncoder,
  weighSizes,
  type EncoderPruningNames,
  type MergedEncoder,
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
  /** What merges in it; null: nothing. */
  readonly merging: Pick<MergedEncoder, 'mergeCounts' | 'owners' | 'attended' | 'layers'> | null;
  /** Its input that says how many patches each token stands for; null: it does not ask. */
  readonly sizes: string | null;
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
export function patchEncoder(settings: EncoderModel, request: VisionRequest): PatchedEncoder {
  const { model, visionLayers, patchesPerToken } = settings;
  const { sites, signals, merging } = request;
  const isInside = sites.length > 0 || merging !== null;
  if (!isInside && signals.length === 0 && !isUnderstood(model)) return uncut(model);
  const whole = findVisionEncoder(model, { output: OUTPUT });
  if (isInside && patchesPerToken > 1) refuseFolding(patchesPerToken);
  if (merging) {
    if (merging.amount) return mergedEncoder(settings, whole, signals);
    return cutInEveryLayer(settings, whole, [...merging.signals], signals);
  }
  checkSites(whole, sites);
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
    const part = { model: cut.lower, input, output: cut.hidden, prefixTokens, signals: outputs };
    parts.push({ ...part, ...NOTHING_MERGED, prunings: [] });
    rest = { model: cut.upper, first: layer, prunings };
  }
  const { encoder, patched, outputs } = withSignals(rest, signals, visionLayers);
  const last = { input: encoder.input, prefixTokens: 0, signals: outputs, ...NOTHING_MERGED, prunings };
  const classToken = whole.prefixTokens > 0;
  if (patchesPerToken > 1) {
    return { parts: [{ model: patched, output: OUTPUT, ...last }], projector: null, classToken };
  }
  const { encoder: lower, projector, features } = splitAtFeatures(patched, encoder);
  parts.push({ model: lower, output: features, ...last });
  return { parts, projector: { model: projector, features }, classToken };
}

const NOTHING_MERGED = { merging: null, sizes: null, prunings: [] } as const;

/** One graph that merges in every layer, and the projector. */
function mergedEncoder(
  { model, visionLayers }: EncoderModel,
  whole: VisionEncoder,
  signals: readonly SignalRequest[],
): PatchedEncoder {
  const merging = mergeEncoder(model, { output: OUTPUT });
  const { encoder, patched, outputs } = withSignals({ ...merging, first: 0 }, signals, visionLayers);
  const { encoder: lower, projector, features } = splitAtFeatures(patched, encoder);
  const part = { model: lower, input: encoder.input, output: features, prefixTokens: 0, signals: outputs };
  return {
    parts: [{ ...part, ...NOTHING_MERGED, merging }],
    projector: { model: projector, features },
    classToken: whole.prefixTokens > 0,
  };
}

/**
 * An encoder that is cut in every layer between attention and MLP, and the projector: a part more than there
 * are layers, each but the first told how many patches its tokens stand for.
 * @param own what comes out of each layer
 * @param signals what comes out of the one that makes the features, whose tokens its own cut may merge
 */
function cutInEveryLayer(
  { model, visionLayers }: EncoderModel,
  whole: VisionEncoder,
  own: readonly SignalRequest[],
  signals: readonly SignalRequest[],
): PatchedEncoder {
  const weighed = weighSizes(model, { output: OUTPUT });
  const layers = Array.from({ length: whole.featuresLayer + 1 }, (_, layer) => layer);
  const ofLayers = layers.flatMap((layer) => own.map((request) => ({ ...request, layer })));
  const requests = [...ofLayers, ...signals];
  const { encoder, patched, outputs } = withSignals({ ...weighed, first: 0 }, requests, visionLayers);
  const { encoder: lower, projector, features } = splitAtFeatures(patched, encoder);
  const parts: EncoderPart[] = [];
  let rest = lower;
  let input = encoder.input;
  const add = (part: OnnxModel, output: string, prefixTokens: number): void => {
    const names = part.graph.output.map(({ name }) => name);
    parts.push({
      ...{ model: part, input, output, prefixTokens, ...NOTHING_MERGED },
      signals: outputs.filter((one) => names.includes(one.output)),
      sizes: weighed.sizes.find((name) => part.graph.input.some((one) => one.name === name)) ?? null,
    });
  };
  while (parts.length < layers.length) {
    const cut = splitEncoder(rest, { output: features }, 0, 'within');
    add(cut.lower, cut.hidden, encoder.prefixTokens);
    rest = cut.upper;
    input = cut.hidden;
  }
  add(rest, features, 0);
  return { parts, projector: { model: projector, features }, classToken: whole.prefixTokens > 0 };
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
  const part = { model, input, output: OUTPUT, prefixTokens: 0, signals: [], ...NOTHING_MERGED };
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
function checkSites({ featuresLayer }: VisionEncoder, sites: VisionRequest['sites']): void {
  const late = sites.find(({ layer }) => layer > featuresLayer);
  if (!late) return;
  throw new UnsupportedReducerError(
    `Nothing can be reduced before layer ${late.layer} of this vision encoder: its features come out of layer ${featuresLayer}. Choose a layer from 1 to ${featuresLayer}.`,
  );
}

/** @throws UnsupportedReducerError */
function refuseFolding(patchesPerToken: number): never {
  throw new UnsupportedReducerError(
    `Nothing can be reduced inside this vision encoder: its connector folds ${patchesPerToken} patches into each token, and needs all of them. Use a method that acts on the features.`,
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
