/** The vision encoder: the bundle's own, or one patched for signals and cut at its projector, so that a plan applies between the two. */
import { SignalUnavailableError, signalId, type EncoderLayer, type Grid, type Signal } from '@foveate/core';
import {
  addSignals,
  findVisionEncoder,
  OnnxGraphError,
  readModel,
  serializeModel,
  splitAtFeatures,
  type VisionEncoder,
  type VisionSignalRequest as GraphSignalRequest,
} from '@foveate/onnx-graph';
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import { BundleError } from '../platform/errors.js';
import { loadOnnxRuntime } from '../platform/native-libraries.js';
import type { PixelValues } from '../bundle/preprocessing.js';
import type { AttentionMap, EncoderOutputs, Rows, VisionSignalRequest } from './protocol.js';
import { floats, openSession, run } from './sessions.js';

const INPUT = 'pixel_values';
const OUTPUT = 'image_features';

/** What one image became. */
export interface EncodedImage {
  /** Of the bundle's own encoder what the language model reads, otherwise what enters the projector. */
  readonly features: Rows;
  readonly grid: Grid | null;
  readonly signals: readonly Signal[];
  readonly maps: readonly AttentionMap[];
}

/** An open encoder. */
export interface Encoder {
  /** @param key of the image, where the last encoding may be returned if it was of the same key */
  encode(pixels: PixelValues, key?: string): Promise<EncodedImage>;
  /** From features (reduced or not) to what the language model reads. */
  project(features: Rows): Promise<Rows>;
  release(): Promise<void>;
}

/** The same encoder, which does not encode its last image again for a caller who names it by its key. */
export function withLastImage(encoder: Encoder): Encoder {
  let last: { readonly key: string; readonly encoded: EncodedImage } | null = null;
  return {
    ...encoder,
    encode: async (pixels, key) => {
      if (key !== undefined && last?.key === key) return last.encoded;
      const encoded = await encoder.encode(pixels);
      last = key === undefined ? null : { key, encoded };
      return encoded;
    },
  };
}

/** What an encoder is opened with. */
export interface EncoderSettings {
  /** Path of the bundle's graph. */
  readonly file: string;
  readonly threads: number;
  readonly patchSize: number;
  /** Layers that the encoder was trained with. */
  readonly layers: number;
}

/**
 * The bundle's own encoder, untouched.
 * @throws BundleError, PlatformError
 */
export async function openOriginalEncoder({ file, threads, patchSize }: EncoderSettings): Promise<Encoder> {
  const session = await openSession(file, file, threads);
  checkInput(session, file);
  const toTensor = await pixelTensor();
  return {
    encode: async (pixels) => {
      const features = rows(await run(session, { [INPUT]: toTensor(session, pixels) }), OUTPUT);
      return { features, grid: gridOf(pixels, patchSize, features.length), signals: [], maps: [] };
    },
    project: (features) => Promise.resolve(features),
    release: () => session.release(),
  };
}

/** One string an output: the same for encoders with the same outputs. */
export function outputIds({ signals, maps }: EncoderOutputs): string[] {
  return [...signals.map(signalId), ...maps.map((layer) => `attention@${layer}`)];
}

/**
 * The bundle's encoder with further outputs, cut in two at the projector. Its weights stay in the bundle's files.
 * @throws BundleError, PlatformError, SignalUnavailableError
 */
export async function openPatchedEncoder(
  wanted: EncoderOutputs,
  { file, threads, patchSize, layers }: EncoderSettings,
): Promise<Encoder> {
  const { encoder, projector, features, outputs } = patch(file, wanted, layers);
  const session = await openSession(serializeModel(encoder), `${file} with signals`, threads);
  checkInput(session, file);
  const projection = await openSession(serializeModel(projector), `the projector of ${file}`, threads);
  const toTensor = await pixelTensor();
  const { Tensor } = await loadOnnxRuntime();
  return {
    encode: async (pixels) => {
      const result = await run(session, { [INPUT]: toTensor(session, pixels) });
      const encoded = rows(result, features);
      const signals = wanted.signals.map((request, index) => ({
        ...request,
        values: floats(result, outputs[index]),
      }));
      const maps = wanted.maps.map((layer, index) =>
        attentionMap(layer, result, outputs[wanted.signals.length + index]),
      );
      return { features: encoded, grid: gridOf(pixels, patchSize, encoded.length), signals, maps };
    },
    project: async ({ data, length }) => {
      const input = new Tensor('float32', data, [1, length, data.length / length]);
      return rows(await run(projection, { [features]: input }), OUTPUT);
    },
    release: async () => {
      await session.release();
      await projection.release();
    },
  };
}

/** The two graphs, and the names of the outputs with the features, with each signal and, behind them, each map. */
function patch(
  file: string,
  { signals, maps }: EncoderOutputs,
  layers: number,
): ReturnType<typeof splitAtFeatures> & { outputs: string[] } {
  try {
    const model = readModel(file);
    const encoder = findVisionEncoder(model, { output: OUTPUT });
    const vectors = signals.map((request) => graphRequest(request, encoder, layers));
    const whole = maps.map((layer): GraphSignalRequest => {
      const read = graphRequest({ signal: 'attentionReceived', layer }, encoder, layers);
      return { ...read, signal: 'attention' };
    });
    const patched = addSignals(model, encoder, [...vectors, ...whole]);
    return { ...splitAtFeatures(patched.model, encoder), outputs: patched.outputs };
  } catch (cause) {
    if (OnnxGraphError.isInstance(cause))
      throw new BundleError(`The vision encoder cannot be patched. ${cause.message}`, { cause });
    throw cause;
  }
}

function graphRequest(
  request: VisionSignalRequest,
  encoder: VisionEncoder,
  layers: number,
): GraphSignalRequest {
  if (request.signal === 'attentionShare') return { signal: request.signal };
  const { signal, layer = 'features' } = request;
  if (signal === 'classAttention' && encoder.prefixTokens === 0) {
    throw new SignalUnavailableError(
      signalId(request),
      'this encoder has no class token. Use a method that reads the attention between patches, such as fopru-rank.',
    );
  }
  if (layer === 'features') return { signal, layer };
  const index = layer === 'last' ? layers - 1 : layer;
  if (index < encoder.layers.length) return { signal, layer: index };
  throw new SignalUnavailableError(
    signalId(request),
    `the graph has the encoder's layers 0 to ${encoder.layers.length - 1}, because exports leave out what the features do not need. Use the layer 'features'.`,
  );
}

/** [1, N, D] or [N, D], float32. */
function rows(outputs: Record<string, Tensor>, name: string): Rows {
  const data = floats(outputs, name);
  const [length, width] = outputs[name].dims.slice(-2);
  if (length * width !== data.length)
    throw new BundleError(
      `The encoder's output ${name} has the shape [${outputs[name].dims.join(', ')}]; this runner reads [1, N, D].`,
    );
  return { data, length };
}

/** [1, H, S, S], float32. */
function attentionMap(layer: EncoderLayer, outputs: Record<string, Tensor>, name: string): AttentionMap {
  const [, heads, side] = outputs[name].dims;
  return { layer, data: floats(outputs, name), heads, side };
}

/** The grid of patches, where the visual tokens are one a patch. */
function gridOf({ width, height }: PixelValues, patchSize: number, tokens: number): Grid | null {
  const grid = { rows: Math.floor(height / patchSize), columns: Math.floor(width / patchSize) };
  return grid.rows * grid.columns === tokens ? grid : null;
}

function checkInput(session: InferenceSession, file: string): void {
  const others = session.inputNames.filter((name) => name !== INPUT);
  if (others.length > 0 || !session.inputNames.includes(INPUT)) {
    throw new BundleError(
      `${file} takes ${session.inputNames.join(', ')}; this runner knows encoders that take ${INPUT} alone.`,
    );
  }
}

/** Makes the input tensor [1, 3, height, width], after a look at what the graph declares. */
async function pixelTensor(): Promise<(session: InferenceSession, pixels: PixelValues) => Tensor> {
  const { Tensor } = await loadOnnxRuntime();
  return (session, { data, height, width }) => {
    const input = session.inputMetadata.find(({ name }) => name === INPUT);
    const declared = input?.isTensor ? input.shape.slice(-2) : [];
    if (declared.some((side, axis) => typeof side === 'number' && side !== [height, width][axis])) {
      throw new BundleError(
        `The encoder reads pictures of ${declared.join(' x ')}, but preprocessor_config.json makes ${height} x ${width} (height x width).`,
      );
    }
    return new Tensor('float32', data, [1, 3, height, width]);
  };
}
