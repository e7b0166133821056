/** The vision encoder with signals, open on the runtime that the model itself runs on. */
import { InvalidArgumentError, type GivenSignal, type RowProducts, type SignalRequest } from '@foveate/core';
import {
  OnnxGraphError,
  parseModel,
  rowProductsGraph,
  serializeModel,
  type OnnxModel,
  type SerializedModel,
} from '@foveate/onnx-graph';
import { Tensor } from '@huggingface/transformers';
import type { InferenceSession, Tensor as OrtTensor } from 'onnxruntime-common';
import { cutEncoder, OUTPUT, type EncoderGraphs } from './encoder-graph.js';
import { VisionEncoderError } from './errors.js';
import type { Llava } from './llava.js';

/** Rows of numbers: one a visual token. */
export interface Rows {
  /** [length, width] */
  readonly data: Float32Array;
  readonly length: number;
}

/** A picture behind the encoder. */
export interface EncodedPicture {
  /** What enters the projector. */
  readonly features: Rows;
  readonly signals: readonly GivenSignal[];
}

/** An open encoder. */
export interface Encoder {
  /** @param pixels [1, 3, height, width] float32 */
  encode(pixels: Tensor): Promise<EncodedPicture>;
  /** From features (reduced or not) to what the language model reads. */
  project(features: Rows): Promise<Rows>;
  /** Products of rows, which are many times as fast in the runtime as in JS. */
  readonly products: RowProducts;
  readonly release: () => Promise<void>;
}

/** How the encoder is opened. */
export interface EncoderSource {
  /** Path of the ONNX file, or its bytes. */
  readonly visionEncoder: string | Uint8Array;
  /** Options of onnxruntime. */
  readonly sessionOptions: InferenceSession.SessionOptions;
}

/**
 * Opens a model's encoder with signals, cut at its projector.
 * @param requests signals of the encoder
 * @throws InvalidArgumentError, VisionEncoderError, SignalUnavailableError
 */
export async function openEncoder(
  { session: own, layers }: Llava,
  { visionEncoder, sessionOptions }: EncoderSource,
  requests: readonly SignalRequest[],
): Promise<Encoder> {
  const graphs = await readGraphs(visionEncoder, requests, layers.vision);
  const sessions = createSessions(own, sessionOptions);
  try {
    const encoder = await sessions.open(serializeModel(graphs.encoder));
    const projector = await sessions.open(serializeModel(graphs.projector));
    return { ...runsOf(graphs, encoder, projector), ...productsOf(sessions), release: sessions.release };
  } catch (error) {
    await sessions.release();
    throw error;
  }
}

function runsOf(
  { input, features, signals }: EncoderGraphs,
  encoder: InferenceSession,
  projector: InferenceSession,
): Pick<Encoder, 'encode' | 'project'> {
  return {
    encode: async (pixels) => {
      const outputs = await encoder.run({ [input]: pixels.ort_tensor });
      return {
        features: rowsOf(outputs, features),
        signals: signals.map(({ request, output }) => ({ ...request, values: floats(outputs, output) })),
      };
    },
    project: async ({ data, length }) => {
      if (length === 0) return { data: new Float32Array(), length };
      const tensor = ortTensor(data, [1, length, data.length / length]);
      return rowsOf(await projector.run({ [features]: tensor }), OUTPUT);
    },
  };
}

/** The session is opened when a reducer first asks which tokens are alike. */
function productsOf(sessions: Sessions): Pick<Encoder, 'products'> {
  let session: Promise<InferenceSession> | undefined;
  return {
    products: async (rows, others, channels) => {
      session ??= sessions.open({ bytes: rowProductsGraph() });
      const matrix = (data: Float32Array): OrtTensor => ortTensor(data, [data.length / channels, channels]);
      const outputs = await (await session).run({ rows: matrix(rows), others: matrix(others) });
      return floats(outputs, 'products');
    },
  };
}

function ortTensor(data: Float32Array, dims: number[]): OrtTensor {
  return new Tensor('float32', data, dims).ort_tensor;
}

async function readGraphs(
  file: string | Uint8Array,
  requests: readonly SignalRequest[],
  trainedLayers: number,
): Promise<EncoderGraphs> {
  if (typeof file !== 'string' && !(file instanceof Uint8Array)) {
    throw new InvalidArgumentError('visionEncoder', file, 'the path of vision_encoder.onnx, or its bytes');
  }
  try {
    return cutEncoder(await readFile(file), requests, trainedLayers);
  } catch (cause) {
    if (!OnnxGraphError.isInstance(cause)) throw cause;
    throw new VisionEncoderError(`The vision encoder cannot be used. ${cause.message}`, { cause });
  }
}

/** Files are read by a module of Node, which bytes do without. */
async function readFile(file: string | Uint8Array): Promise<OnnxModel> {
  if (typeof file !== 'string') return parseModel(file);
  const { readModel } = await import('@foveate/onnx-graph/files');
  return readModel(file);
}

/** Sessions that are released together. */
interface Sessions {
  /** @throws VisionEncoderError */
  open(graph: SerializedModel): Promise<InferenceSession>;
  readonly release: () => Promise<void>;
}

/**
 * Opens graphs on the runtime of another session: onnxruntime-node or onnxruntime-web, as transformers.js
 * chose, and no second copy of either.
 */
function createSessions(
  { constructor: runtime }: InferenceSession,
  options: InferenceSession.SessionOptions,
): Sessions {
  const opened: InferenceSession[] = [];
  return {
    open: async ({ bytes, folder }) => {
      const own = folder !== undefined && { model_external_initializers_file_folder_path: folder };
      const extra = {
        ...options.extra,
        session: { ...(options.extra?.session as object | undefined), ...own },
      };
      // What goes wrong is thrown; onnxruntime need not write to stderr too.
      const all = { logSeverityLevel: 4 as const, ...options, extra };
      try {
        const session = await (runtime as unknown as typeof InferenceSession).create(bytes, all);
        opened.push(session);
        return session;
      } catch (cause) {
        const problem = (cause as Error).message;
        const message = `onnxruntime cannot load the vision encoder with signals: ${problem}`;
        throw new VisionEncoderError(message, { cause });
      }
    },
    release: async () => {
      for (const session of opened.splice(0)) await session.release();
    },
  };
}

/** [1, N, D] or [N, D] */
function rowsOf(outputs: Readonly<Record<string, OrtTensor>>, name: string): Rows {
  return { data: floats(outputs, name), length: outputs[name].dims.at(-2) ?? 0 };
}

/** @throws VisionEncoderError on another type than float32 */
function floats(outputs: Readonly<Record<string, OrtTensor>>, name: string): Float32Array {
  const { type, data } = outputs[name];
  if (data instanceof Float32Array) return data;
  throw new VisionEncoderError(
    `The encoder's output ${name} is ${type}; transformers.js puts float32 into the prompt. Use the file of another dtype.`,
  );
}
