/** The vision encoder: the bundle's own, or one with signals and sites, cut at its projector, so that plans apply between the two. */
import { SignalUnavailableError, signalId, type GivenSignal, type SignalRequest } from '@foveate/core';
import {
  addSignals,
  findVisionEncoder,
  graphSignals,
  OnnxGraphError,
  serializeModel,
  splitAtFeatures,
  type OnnxModel,
  type SignalRequest as GraphSignal,
  type SplitEncoder,
  type VisionEncoder,
} from '@foveate/onnx-graph';
import type { InferenceSession, Tensor } from 'onnxruntime-common';
import type { PixelValues } from '../bundle/preprocessing.js';
import { BundleError } from '../platform/errors.js';
import type { Features, VisionRequest } from './api.js';
import type { Form } from './forms.js';
import { floats, run, type Sessions } from './sessions.js';

const INPUT = 'pixel_values';
const OUTPUT = 'image_features';

/** What one crop became. */
export interface EncodedCrop {
  /** Of the bundle's own encoder what the language model reads, otherwise what enters the projector. */
  readonly features: Features;
  readonly signals: readonly GivenSignal[];
}

/** An open encoder. */
export interface Encoder extends Form {
  /** Whether attention maps have the class token first. */
  readonly classToken: boolean;
  encode(pixels: PixelValues): Promise<EncodedCrop>;
  /** From features (reduced or not) to what the language model reads. */
  project(features: Features): Promise<Features>;
}

/** What an encoder is opened with. */
export interface EncoderSettings {
  /** Path of the bundle's graph, for messages. */
  readonly file: string;
  /** The graph, its weights left in the bundle's files. */
  readonly model: OnnxModel;
  readonly weightBytes: number;
  /** Layers that the encoder was trained with. */
  readonly visionLayers: number;
}

/**
 * The bundle's own encoder, untouched.
 * @throws BundleError, PlatformError
 */
export async function openOriginalEncoder(sessions: Sessions, settings: EncoderSettings): Promise<Encoder> {
  const { file, weightBytes } = settings;
  const session = await sessions.open(file, file);
  checkInput(session, file);
  return {
    weightBytes,
    classToken: false,
    encode: async (pixels) => {
      const features = rows(await run(session, { [INPUT]: pixelTensor(sessions, session, pixels) }), OUTPUT);
      return { features, signals: [] };
    },
    project: async (features) => features,
    release: () => session.release(),
  };
}

/** One string for an encoder's form: the same for encoders with the same outputs. */
export function encoderFormId({ signals }: VisionRequest): string {
  return `encoder ${signals.map(signalId).sort().join(' ')}`;
}

/**
 * The bundle's encoder with further outputs, cut in two at the projector. Its weights stay in the bundle's files.
 * @throws BundleError, PlatformError, SignalUnavailableError
 */
export async function openPatchedEncoder(
  sessions: Sessions,
  settings: EncoderSettings,
  { signals }: VisionRequest,
): Promise<Encoder> {
  const { file, weightBytes } = settings;
  const { encoder, projector, features, outputs, classToken } = patch(settings, signals);
  const session = await sessions.open(serializeModel(encoder), `${file} with signals`);
  checkInput(session, file);
  const projection = await sessions.open(serializeModel(projector), `the projector of ${file}`);
  return {
    weightBytes,
    classToken,
    encode: async (pixels) => {
      const result = await run(session, { [INPUT]: pixelTensor(sessions, session, pixels) });
      const given = signals.map((request, i) => ({ ...request, values: floats(result, outputs[i]) }));
      return { features: rows(result, features), signals: given };
    },
    project: async ({ data, length }) => {
      const input = new sessions.Tensor('float32', data, [1, length, data.length / length]);
      return rows(await run(projection, { [features]: input }), OUTPUT);
    },
    release: async () => {
      await session.release();
      await projection.release();
    },
  };
}

/** The two graphs, and the name of the output with each signal. */
function patch(
  { model, visionLayers }: EncoderSettings,
  signals: readonly SignalRequest[],
): SplitEncoder & { outputs: readonly string[]; classToken: boolean } {
  try {
    const encoder = findVisionEncoder(model, { output: OUTPUT });
    const requests = signals.map((request) => graphSignal(request, encoder, visionLayers));
    const patched = addSignals(model, encoder, requests);
    return {
      ...splitAtFeatures(patched.model, encoder),
      outputs: patched.outputs,
      classToken: encoder.prefixTokens > 0,
    };
  } catch (cause) {
    if (OnnxGraphError.isInstance(cause))
      throw new BundleError(`The vision encoder cannot be patched. ${cause.message}`, { cause });
    throw cause;
  }
}

/** The request as the graph reads it. @throws SignalUnavailableError where the graph cannot give the signal */
function graphSignal(request: SignalRequest, encoder: VisionEncoder, visionLayers: number): GraphSignal {
  const { signal, layer, parameters } = request;
  const needed = { name: signal.name, ...parameters };
  if (graphSignals.get(signal.name)?.needsClassToken && encoder.prefixTokens === 0) {
    throw new SignalUnavailableError(
      signalId(request),
      'this encoder has no class token. Use a method that reads the attention between patches, such as fopru-rank.',
    );
  }
  if (typeof layer !== 'number') return layer === undefined ? needed : { ...needed, layer: 'features' };
  if (layer >= 0 && layer < encoder.layers.length) return { ...needed, layer };
  const present = `the graph has the encoder's layers 0 to ${encoder.layers.length - 1} of ${visionLayers}, because exports leave out what the features do not need`;
  throw new SignalUnavailableError(signalId(request), `${present}. Use the layer 'features'.`);
}

/** [1, N, D] or [N, D], float32. */
function rows(outputs: Record<string, Tensor>, name: string): Features {
  const data = floats(outputs, name);
  const [length, width] = outputs[name].dims.slice(-2);
  if (length * width !== data.length)
    throw new BundleError(
      `The encoder's output ${name} has the shape [${outputs[name].dims.join(', ')}]; this runner reads [1, N, D].`,
    );
  return { data, length };
}

function checkInput(session: InferenceSession, file: string): void {
  const others = session.inputNames.filter((name) => name !== INPUT);
  if (others.length > 0 || !session.inputNames.includes(INPUT)) {
    throw new BundleError(
      `${file} takes ${session.inputNames.join(', ')}; this runner knows encoders that take ${INPUT} alone.`,
    );
  }
}

/** The input tensor [1, 3, height, width], after a look at what the graph declares. */
function pixelTensor(
  { Tensor }: Sessions,
  session: InferenceSession,
  { data, height, width }: PixelValues,
): Tensor {
  const input = session.inputMetadata.find(({ name }) => name === INPUT);
  const declared = input?.isTensor ? input.shape.slice(-2) : [];
  if (declared.some((side, axis) => typeof side === 'number' && side !== [height, width][axis])) {
    throw new BundleError(
      `The encoder reads pictures of ${declared.join(' x ')}, but preprocessor_config.json makes ${height} x ${width} (height x width).`,
    );
  }
  return new Tensor('float32', data, [1, 3, height, width]);
}
