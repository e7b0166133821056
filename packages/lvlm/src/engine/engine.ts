/**
 * The engine: holds sessions, features and the KV cache, and runs one call at a time. Runs in a thread of its
 * own.
 */
import { describeModel, OnnxGraphError } from '@foveate/onnx-graph';
import type { PixelValues, Size } from '../bundle/preprocessing.js';
import { familyOf } from '../families/index.js';
import { BundleError, WorkerError } from '../platform/errors.js';
import type { Device } from '../platform/devices.js';
import type { EnginePlatform } from '../platform/platform.js';
import type { CallerApi, EngineApi, EngineSettings, GenerateRequest, VisionRequest } from './api.js';
import { Awaited } from './awaited.js';
import { Decoder } from './decoder.js';
import {
  checkInputs,
  encoderFormId,
  openOriginalEncoder,
  patchedEncoder,
  type Encoder,
  type EncoderSettings,
} from './encoder.js';
import { Forms } from './forms.js';
import { generate, Stopped } from './generation.js';
import { openCheckedEncoder } from './identity-check.js';
import { KeptTurns } from './kept-turns.js';
import { createRowProducts } from './row-products.js';
import { checkDevice, createSessions } from './sessions.js';
import { createVision, type Vision } from './vision.js';

/**
 * Weights of all open forms together: beyond this share of the machine's memory those used longest ago are
 * closed.
 */
const MEMORY_SHARE = 0.25;

/** An open model. */
interface Model {
  readonly platform: EnginePlatform;
  readonly device: Device;
  readonly encoder: EncoderSettings;
  readonly decoder: Decoder;
  readonly vision: Vision;
  readonly keptTurns: KeptTurns;
}

/**
 * An engine that has yet to open a bundle.
 * @param caller the other thread; asked during calls only
 * @param onDispose called once nothing runs any more
 * @throws in its functions: BundleError, PlatformError, WorkerError, and what the caller's thread throws
 */
export function createEngine(
  openPlatform: () => Promise<EnginePlatform>,
  caller: () => CallerApi,
  onDispose: () => void,
): EngineApi {
  const awaited = new Awaited();
  let opened: Model | null = null;
  let running: Promise<unknown> = Promise.resolve();
  const model = (): Model => {
    if (opened) return opened;
    throw new WorkerError('The engine was asked before it opened a bundle.');
  };
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const turn = running.then(work);
    running = turn.catch(() => undefined);
    return turn;
  };
  return {
    open: (settings) =>
      inTurn(async () => {
        opened = await openModel(await openPlatform(), settings, awaited);
        return opened.decoder.dimensions;
      }),
    prepare: (forms) =>
      inTurn(async () => {
        await model().vision.encoderFor(forms.vision);
        await model().decoder.prepare(forms);
      }),
    check: (forms) =>
      inTurn(async () => {
        const { encoder, decoder } = model();
        if (forms.vision) void patchedEncoder(encoder, forms.vision);
        decoder.check(forms);
      }),
    generate: (request: GenerateRequest) =>
      inTurn(async () => {
        const { platform, decoder, vision, keptTurns } = model();
        await refuseChanged(platform);
        const now = (): number => platform.now();
        try {
          const outcome = await generate(request, {
            now,
            decoder,
            vision,
            keptTurns,
            awaited,
            caller: caller(),
          });
          return { ...outcome, warnings: [...outcome.warnings, ...fallbackWarnings(model())] };
        } catch (error) {
          if (error instanceof Stopped) return null;
          throw error;
        }
      }),
    signal: (request, among) => awaited.signal(request, among),
    nearest: (rows, of, k, among) => awaited.nearest(rows, of, k, among),
    similarity: (rows, to, measure, among) => awaited.similarity(rows, to, measure, among),
    products: (rows, others, channels) => awaited.products(rows, others, channels),
    forget: (turn) => opened?.keptTurns.forget(turn),
    dispose: async () => {
      await running;
      onDispose();
    },
  };
}

/** What the device did not do. */
function fallbackWarnings({ platform, device }: Model): string[] {
  const operators = platform.fallbacks();
  if (operators.length === 0) return [];
  return [
    `On ${device} onnxruntime left some work to the processor, and copies what that needs to and fro: ${operators.join(', ')}.`,
  ];
}

/** @throws BundleError where a file of the bundle is not what it was when it was opened */
async function refuseChanged(platform: EnginePlatform): Promise<void> {
  const file = await platform.changedFile();
  if (file === null) return;
  throw new BundleError(`${file} changed while the model is open: dispose of the model and load it again.`);
}

/** @throws BundleError, PlatformError */
async function openModel(
  platform: EnginePlatform,
  { graphs, threads, device, family, identityTolerance, rotaryBase, maxChatBytes }: EngineSettings,
  awaited: Awaited,
): Promise<Model> {
  const sessions = createSessions(platform, { threads, device });
  await checkDevice(platform, { threads, device });
  const forms = new Forms(platform.totalMemory * MEMORY_SHARE);
  const encoderFile = graphs.vision_encoder;
  const decoderFile = graphs.decoder_model_merged;
  const [encoder, decoder] = await reading(() =>
    Promise.all([encoderFile, decoderFile].map((file) => platform.readModel(file))),
  );
  const { weightBytes, inputs } = describeModel(encoder);
  const { visionLayers, patchSize, patchesPerToken } = family;
  const feeds: EncoderSettings['feeds'] = (pixels) => familyOf(family).feeds(pixels, family);
  const probe = familyOf(family).probeSize(family);
  checkInputs(encoderFile, inputs, feeds(withoutPixels(probe)));
  const known = { visionLayers, patchSize, patchesPerToken };
  const settings: EncoderSettings = { file: encoderFile, model: encoder, weightBytes, ...known, feeds };
  const onCpu = createSessions(platform, { threads, device: 'cpu' });
  const check = { probe, tolerance: identityTolerance, reference: onCpu };
  const encoderFor = (request: VisionRequest | null): Promise<Encoder> =>
    forms.get(request ? encoderFormId(request) : 'encoder', settings.weightBytes, () =>
      request
        ? openCheckedEncoder(platform, sessions, settings, request, check)
        : openOriginalEncoder(sessions, settings),
    );
  awaited.rowProducts = createRowProducts(sessions);
  return {
    platform,
    device,
    encoder: settings,
    vision: createVision(encoderFor, family),
    keptTurns: new KeptTurns(maxChatBytes),
    decoder: await Decoder.open(sessions, forms, {
      file: decoderFile,
      model: decoder,
      embeddings: graphs.embed_tokens,
      rotaryBase,
    }),
  };
}

/** For the shapes of what is made of it: the size may be one that no memory holds. */
function withoutPixels({ width, height }: Size): PixelValues {
  return { data: new Float32Array(), width, height };
}

/** Errors of a graph's structure are the bundle's. @throws BundleError */
async function reading<T>(read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    if (!OnnxGraphError.isInstance(cause)) throw cause;
    throw new BundleError(`The bundle's graphs cannot be read. ${cause.message}`, { cause });
  }
}
