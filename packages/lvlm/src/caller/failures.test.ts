/** A worker that dies, and libraries that are not there. */
import type * as Threads from 'node:worker_threads';
import { atFeatures, defineReducer, FoveateError, SignalUnavailableError } from '@foveate/core';
import { afterEach, expect, test, vi } from 'vitest';
import { CACHE, FIXTURE, picture } from '../../test/bundles.js';
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
