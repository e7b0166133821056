/** A worker that dies, and libraries that are not there. */
import { truncate } from 'node:fs/promises';
import path from 'node:path';
import type * as Threads from 'node:worker_threads';
import { atFeatures, defineReducer, FoveateError, SignalUnavailableError } from '@foveate/core';
import { afterEach, expect, test, vi } from 'vitest';
import { CACHE, copyOfFixture, editJson, FIXTURE, picture } from '../../test/bundles.js';
import { receiveError, sendError } from '../engine/error-transfer.js';
import { BundleError, IdentityCheckError, Lvlm, PlatformError, PromptError, WorkerError } from '../index.js';

const workers = vi.hoisted((): Threads.Worker[] => []);
vi.mock('node:worker_threads', async (original) => {
  const threads = await original<typeof Threads>();
  class WatchedWorker extends threads.Worker {
    constructor(...parameters: ConstructorParameters<typeof threads.Worker>) {
      super(...parameters);
      workers.push(this);
    }
  }
  return { ...threads, Worker: WatchedWorker };
});
afterEach(() => {
  vi.doUnmock('sharp');
  vi.doUnmock('onnxruntime-node');
  vi.resetModules();
});

test('a worker that dies fails the running, waiting and later calls', async () => {
  const lvlm = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE });
  const ask = { images: [picture(1)], prompt: 'x' };
  const deadly = defineReducer({
    name: 'deadly',
    at: [atFeatures],
    requires: {},
    plan: async () => {
      await workers.at(-1)?.terminate();
      return new Promise<never>(() => undefined);
    },
  });
  const running = lvlm.generate({ ...ask, reducers: [deadly] });
  const waiting = lvlm.generate(ask);
  await expect(running).rejects.toThrow(/The worker thread ended with code 1. Load the model again./);
  await expect(waiting).rejects.toThrow(WorkerError);
  await expect(lvlm.generate(ask)).rejects.toThrow(WorkerError);
  await lvlm.dispose();
});

test('a library without a binary for this platform', async () => {
  const fail = (): never => {
    throw new Error('no binary here');
  };
  vi.doMock('sharp', fail);
  vi.doMock('onnxruntime-node', fail);
  vi.resetModules();
  const { loadOnnxRuntime, loadSharp } = await import('../platform/native-libraries.js');
  for (const [library, load] of Object.entries({ sharp: loadSharp, 'onnxruntime-node': loadOnnxRuntime })) {
    const error: unknown = await load().catch((cause: unknown) => cause);
    expect(PlatformError.isInstance(error)).toBe(true);
    expect((error as Error).message).toContain(
      `${library} cannot be loaded on ${process.platform}-${process.arch}`,
    );
  }
});

test('errors come out of the worker as they went in', () => {
  for (const type of [BundleError, IdentityCheckError, PlatformError, PromptError, WorkerError]) {
    const received = receiveError(structuredClone(sendError(new type('what: happened'))));
    expect(received).toBeInstanceOf(type);
    expect(received.message).toBe('what: happened');
  }
  const signal = new SignalUnavailableError('keys@last', 'it is: gone');
  const received = receiveError(structuredClone(sendError(signal)));
  expect(received).toEqual(signal);
  expect(received).toBeInstanceOf(SignalUnavailableError);
  expect(FoveateError.isInstance(received)).toBe(true);
  expect(receiveError(sendError(new TypeError('a defect')))).toBeInstanceOf(WorkerError);
});

test.each(['onnx/vision_encoder.onnx', 'onnx/decoder_model_merged.onnx', 'onnx/embed_tokens.onnx'])(
  'a model does not run on, once %s is shorter than it was',
  async (name) => {
    const bundle = await copyOfFixture();
    await using model = await Lvlm.load(bundle, { cacheDirectory: CACHE });
    const ask = { images: [picture(1)], prompt: 'x', maxNewTokens: 1 };
    await model.generate(ask);
    const file = path.join(bundle, name);
    await truncate(file, 5000);
    await expect(model.generate(ask)).rejects.toThrow(`${file} changed while the model is open`);
    await expect(model.generate(ask)).rejects.toThrow(BundleError);
  },
);

test('a size that the encoder does not take is told before any picture is made', async () => {
  const bundle = await copyOfFixture();
  const size = { height: 16384, width: 16384 };
  await editJson(bundle, 'preprocessor_config.json', { size: { shortest_edge: 16384 }, crop_size: size });
  await expect(Lvlm.load(bundle, { cacheDirectory: CACHE })).rejects.toThrow(
    /The encoder reads pixel_values of .* x 3 x 64 x 64, but preprocessor_config.json makes 1 x 3 x 16384 x 16384/,
  );
});
