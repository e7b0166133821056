import { InvalidArgumentError } from '@foveate/core';
import * as tf from '@tensorflow/tfjs-core';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { BackendUnavailableError } from './errors.js';
import { loadBackend, type BackendName } from './load-backend.js';

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});
afterEach(() => {
  vi.restoreAllMocks();
});

/** A folder with one package in it, which has these files. */
function install(module: string, files: Record<string, string>): string {
  const from = mkdtempSync(path.join(tmpdir(), 'foveate-tfjs-'));
  folders.push(from);
  const root = path.join(from, 'node_modules', module);
  const manifest = JSON.stringify({ name: module, version: '0.0.0', main: 'dist/index.js' });
  for (const [file, text] of Object.entries({ 'package.json': manifest, ...files })) {
    mkdirSync(path.dirname(path.join(root, file)), { recursive: true });
    writeFileSync(path.join(root, file), text);
  }
  return from;
}

async function attemptAt(
  name: BackendName,
  from: string,
): Promise<BackendUnavailableError['attempts'][number]> {
  const error: unknown = await loadBackend({ prefer: [name], from }).catch((reason: unknown) => reason);
  if (!BackendUnavailableError.isInstance(error)) throw error;
  expect(error.attempts).toHaveLength(1);
  expect(error.message).toContain(error.attempts[0].message);
  return error.attempts[0];
}

const core = JSON.stringify(createRequire(import.meta.url).resolve('@tensorflow/tfjs-core'));

describe('loadBackend', () => {
  it('takes the first that works and says why the ones before do not, printing nothing', async () => {
    const printed = [vi.spyOn(console, 'warn'), vi.spyOn(console, 'log'), vi.spyOn(console, 'error')];
    const from = install('@tensorflow/tfjs-node-gpu', { 'dist/index.js': 'throw new Error("was loaded")' });
    await expect(attemptAt('node-gpu', from)).resolves.toEqual({
      name: 'node-gpu',
      problem: 'no-addon',
      message: expect.stringContaining('@tensorflow/tfjs-node-gpu has no native addon') as string,
    });
    const { name, device, backend, attempts } = await loadBackend({ prefer: ['node-gpu', 'node', 'cpu'] });
    expect([name, device, backend.name]).toEqual(['cpu', 'cpu', 'cpu']);
    expect(attempts.map((attempt) => [attempt.name, attempt.problem])).toEqual([
      ['node-gpu', 'not-installed'],
      ['node', 'not-installed'],
    ]);
    expect(attempts[0].message).toContain('npm install @tensorflow/tfjs-node-gpu');
    tf.tensor([1]).dispose();
    for (const print of printed) expect(print).not.toHaveBeenCalled();
  });

  it('does not load a package whose native addon does not load', async () => {
    const from = install('@tensorflow/tfjs-node', {
      'dist/index.js': 'throw new Error("was loaded")',
      'lib/napi-v8/tfjs_binding.node': 'no library',
    });
    const { problem, message } = await attemptAt('node', from);
    expect(problem).toBe('load-failed');
    expect(message).toContain('The native addon of @tensorflow/tfjs-node does not load');
    expect(tf.getKernelsForBackend('tensorflow')).toEqual([]);
  });

  it.each([
    [
      'throws while it loads',
      'throw new Error("no such instruction\\nat ...")',
      'load-failed',
      'no such instruction.',
    ],
    [
      'registers a backend that cannot start',
      'tf.registerBackend("wasm", () => { throw new Error("no memory") })',
      'load-failed',
      'does not start',
    ],
    [
      'computes wrongly',
      'const cpu = tf.findBackendFactory("cpu"); tf.registerBackend("wasm", cpu); for (const kernel of tf.getKernelsForBackend("cpu")) tf.registerKernel({ ...kernel, backendName: "wasm", ...(kernel.kernelName === "BatchMatMul" && { kernelFunc: ({ inputs, backend }) => backend.makeTensorInfo([1, 1], "float32", new Float32Array([12])) }) })',
      'wrong-result',
      'says that 1 * 3 + 2 * 4 is 12',
    ],
  ])('takes back a package that %s', async (_, registers, problem, message) => {
    const { name: before } = await loadBackend({ prefer: ['cpu'] });
    const numTensors = tf.memory().numTensors;
    const kernel = 'tf.registerKernel({ kernelName: "Abs", backendName: "wasm", kernelFunc: () => [] });';
    const from = install('@tensorflow/tfjs-backend-wasm', {
      'dist/index.js': `const tf = require(${core}); ${kernel} ${registers}`,
    });
    const attempt = await attemptAt('wasm', from);
    expect(attempt.problem).toBe(problem);
    expect(attempt.message).toContain(message);
    expect(tf.getKernelsForBackend('wasm')).toEqual([]);
    expect(tf.findBackendFactory('wasm')).toBeNull();
    expect(tf.getBackend()).toBe(before);
    expect(tf.memory().numTensors).toBe(numTensors);
  });

  it('says that another package registered the same backend', async () => {
    tf.registerBackend('tensorflow', () => {
      throw new Error('of another package');
    });
    const from = install('@tensorflow/tfjs-node', { 'dist/index.js': '' });
    expect((await attemptAt('node', from)).problem).toBe('conflict');
    tf.removeBackend('tensorflow');
  });

  it('loads again what it loaded, and one after the other', async () => {
    const loads = (['wasm', 'cpu', 'wasm', 'cpu'] as const).map((name) => loadBackend({ prefer: [name] }));
    expect((await Promise.all(loads)).map(({ name }) => name)).toEqual(['wasm', 'cpu', 'wasm', 'cpu']);
    expect(tf.getBackend()).toBe('cpu');
    expect(tf.env().getBool('PROD')).toBe(false);
    expect(process.env.TF_CPP_MIN_LOG_LEVEL).toBeUndefined();
  });

  it('refuses what is no backend', async () => {
    await expect(loadBackend({ prefer: [] })).rejects.toThrow(InvalidArgumentError);
    await expect(loadBackend({ prefer: ['webgl' as 'cpu'] })).rejects.toThrow(
      'prefer must be node-gpu or node or wasm or cpu; received "webgl"',
    );
  });
});
