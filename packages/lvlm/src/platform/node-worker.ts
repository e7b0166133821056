/** The worker thread's entry: holds the sessions, the features and the KV cache, and runs one call at a time. */
import { parentPort, workerData } from 'node:worker_threads';
import { applyPlan, type ReductionPlan, type Signal, type Span } from '@foveate/core';
import { Decoder } from '../engine/decoder.js';
import {
  openOriginalEncoder,
  outputIds,
  withLastImage,
  type EncodedImage,
  type Encoder,
} from '../engine/encoder.js';
import { sendError } from '../engine/error-transfer.js';
import { generate, Stopped } from '../engine/generation.js';
import { openCheckedEncoder } from '../engine/identity-check.js';
import { createAnswerKeys } from '../engine/nearest-keys.js';
import type {
  EncoderRequest,
  FromWorker,
  GenerateRequest,
  KeysQuery,
  Rows,
  ToWorker,
  WorkerInit,
} from '../engine/protocol.js';

const init = workerData as WorkerInit;
const port = parentPort;
if (!port) throw new Error('This file is the entry of a worker thread of @foveate/lvlm.');

const decoder = Decoder.open(init.graphs, init.threads, init.language);
const answerKeys = createAnswerKeys(init.threads);
const encoders = new Map<string, Promise<Encoder>>();
/** What the thread does now, or did last. */
let running: Promise<void>;
/** What the caller's thread decides. */
type Reply = readonly ReductionPlan[] | Rows;
/** Whose plans are awaited: an image's, or without one those of the whole prompt. */
let awaited: {
  readonly encoded: EncodedImage | null;
  readonly resolve: (reply: Reply | null) => void;
} | null = null;

function post(message: FromWorker): void {
  port?.postMessage(message);
}

/** One encoder for each set of signals, opened when it is first asked for. */
function encoderFor(request: EncoderRequest): Promise<Encoder> {
  const id = request ? outputIds(request).sort().join(' ') : 'original';
  const settings = {
    file: init.graphs.vision_encoder,
    threads: init.threads,
    patchSize: init.patchSize,
    layers: init.visionLayers,
  };
  const open = (): Promise<Encoder> =>
    request ? openCheckedEncoder(request, settings, init.identityCheck) : openOriginalEncoder(settings);
  const encoder = encoders.get(id) ?? open().then(withLastImage);
  encoders.set(id, encoder);
  encoder.catch(() => encoders.delete(id));
  return encoder;
}

/** Asks the caller's thread for plans, or for what they left. */
async function consult(
  encoded: EncodedImage | null,
  message: Extract<FromWorker, { type: 'encoded' | 'prompted' }>,
): Promise<Reply> {
  const reply = await new Promise<Reply | null>((resolve) => {
    awaited = { encoded, resolve };
    post(message);
  });
  awaited = null;
  if (!reply) throw new Stopped();
  return reply;
}

async function reduceImage(image: number, encoded: EncodedImage, handOut: boolean): Promise<Rows> {
  const { features, grid, maps } = encoded;
  // Keys are wide: unless they are to be handed out they stay here, and what is asked of them is answered here.
  const signals = handOut ? encoded.signals : encoded.signals.filter(({ signal }) => signal !== 'keys');
  const handedOut = handOut ? { features, maps } : null;
  const reply = await consult(encoded, {
    ...{ type: 'encoded', image, length: features.length, grid, signals, handedOut },
  });
  return 'data' in reply ? reply : reply.reduce(applyTo, features);
}

function applyTo({ data }: Rows, plan: ReductionPlan): Rows {
  return { data: applyPlan(plan, data), length: plan.outputLength };
}

async function requestPromptPlan(spans: readonly Span[], signals: readonly Signal[]): Promise<ReductionPlan> {
  const plans = (await consult(null, { type: 'prompted', spans, signals })) as readonly ReductionPlan[];
  return plans[0];
}

async function answer(request: GenerateRequest): Promise<void> {
  try {
    const outcome = await generate(request, {
      decoder: await decoder,
      encoder: await encoderFor(request.encoder),
      reduceImage,
      requestPromptPlan,
      emitToken: (token) => {
        post({ type: 'token', token });
      },
    });
    post({ type: 'done', outcome });
  } catch (error) {
    post({ type: 'failed', error: error instanceof Stopped ? null : sendError(error) });
  }
}

async function answerQuery(id: number, query: KeysQuery): Promise<void> {
  try {
    if (!awaited?.encoded) throw new Stopped();
    post({ type: 'answer', id, values: await answerKeys(awaited.encoded, query) });
  } catch (error) {
    post({ type: 'refused', id, error: sendError(error) });
  }
}

/** Lets the thread end by itself, once nothing runs. */
async function dispose(): Promise<void> {
  awaited?.resolve(null);
  await running;
  port?.close();
}

port.on('message', (message: ToWorker) => {
  switch (message.type) {
    case 'generate':
      running = answer(message.request);
      break;
    case 'plans':
      awaited?.resolve(message.plans);
      break;
    case 'reduced':
      awaited?.resolve(message.features);
      break;
    case 'query':
      void answerQuery(message.id, message.query);
      break;
    case 'dispose':
      void dispose();
      break;
  }
});

async function load(): Promise<void> {
  try {
    const { dimensions } = await decoder;
    await encoderFor(init.encoder);
    post({ type: 'loaded', dimensions });
  } catch (error) {
    post({ type: 'failed', error: sendError(error) });
  }
}
running = load();
