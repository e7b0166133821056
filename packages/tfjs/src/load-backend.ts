import { InvalidArgumentError, type TensorBackend } from '@foveate/core';
import * as tf from '@tensorflow/tfjs-core';
import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import util from 'node:util';
import { tfjsBackend } from './backend.js';
import { BackendUnavailableError } from './errors.js';

/** A backend of TensorFlow.js, by the end of its package's name. */
export type BackendName = 'node-gpu' | 'node' | 'wasm' | 'cpu';

/**
 * Why a backend does not work: its package or the package's native addon is not there; loading either of them
 * failed; it computed something wrong; or another package registered a backend of its kind in this process
 * before.
 */
export type BackendProblem = 'not-installed' | 'no-addon' | 'load-failed' | 'wrong-result' | 'conflict';

/** A backend that was tried and does not work. */
export interface BackendAttempt {
  readonly name: BackendName;
  readonly problem: BackendProblem;
  /** One sentence on what is wrong, and what to do. */
  readonly message: string;
}

/** The backend that works, and what was tried before it. */
export interface LoadedBackend {
  readonly name: BackendName;
  /** What it computes on. `node-gpu` computes on the CPU where it finds no CUDA device. */
  readonly device: 'gpu' | 'cpu';
  /** The operations on it. */
  readonly backend: TensorBackend<tf.Tensor>;
  /** The preferred ones that do not work, in order. */
  readonly attempts: readonly BackendAttempt[];
}

/** Options of {@link loadBackend}. */
export interface LoadBackendOptions {
  /** Which to try, in this order. Default `['node-gpu', 'node', 'wasm', 'cpu']`. */
  readonly prefer?: readonly BackendName[];
  /**
   * A folder from which the packages of TensorFlow.js are resolved, as Node resolves an import there.
   * Default: this package's own.
   */
  readonly from?: string;
}

const packages: Record<BackendName, { module: string; registers: string; native: boolean }> = {
  'node-gpu': { module: '@tensorflow/tfjs-node-gpu', registers: 'tensorflow', native: true },
  node: { module: '@tensorflow/tfjs-node', registers: 'tensorflow', native: true },
  wasm: { module: '@tensorflow/tfjs-backend-wasm', registers: 'wasm', native: false },
  cpu: { module: '@tensorflow/tfjs-backend-cpu', registers: 'cpu', native: false },
};

/** Loads go one after the other, because which backend is active holds for the whole process. */
let lastLoad: Promise<unknown> = Promise.resolve();

/**
 * Loads the first backend that really works and makes it the active one of TensorFlow.js. What cannot work is
 * not loaded, what fails is taken back, so that nothing half registered is left; nothing is printed.
 * @throws BackendUnavailableError where none works; InvalidArgumentError on a name that is none
 */
export async function loadBackend(options: LoadBackendOptions = {}): Promise<LoadedBackend> {
  const names = Object.keys(packages) as BackendName[];
  const { prefer = names, from } = options;
  const isList: boolean = Array.isArray(prefer);
  if (!isList || prefer.length === 0) {
    throw new InvalidArgumentError('prefer', prefer, 'a list of at least one backend');
  }
  const unknown = prefer.find((name) => !names.includes(name));
  if (unknown !== undefined) throw new InvalidArgumentError('prefer', unknown, names.join(' or '));
  const require = createRequire(from === undefined ? import.meta.url : path.resolve(from, 'package.json'));
  const load = lastLoad.then(() => quietly(() => loadFirst(prefer, require)));
  lastLoad = load.catch(() => undefined);
  return load;
}

async function loadFirst(prefer: readonly BackendName[], require: NodeJS.Require): Promise<LoadedBackend> {
  const attempts: BackendAttempt[] = [];
  for (const name of prefer) {
    const failure = await tryBackend(name, require);
    if (!failure) {
      const { isUsingGpuDevice } = tf.backend() as { isUsingGpuDevice?: boolean };
      return { name, device: isUsingGpuDevice ? 'gpu' : 'cpu', backend: tfjsBackend, attempts };
    }
    attempts.push({ name, ...failure });
  }
  throw new BackendUnavailableError(attempts);
}

type Failure = Omit<BackendAttempt, 'name'>;

/** Makes a backend the active one, or says why not. */
async function tryBackend(name: BackendName, require: NodeJS.Require): Promise<Failure | undefined> {
  const { module, registers, native } = packages[name];
  const entry = resolveModule(require, module);
  if (!entry) {
    return { problem: 'not-installed', message: `${module} is not installed (npm install ${module}).` };
  }
  const loadedBefore = entry in require.cache;
  if (!loadedBefore && isRegistered(registers)) {
    const message = `Another package than ${module} has registered "${registers}" in this process.`;
    return { problem: 'conflict', message };
  }
  const noAddon = native && !loadedBefore ? addonFailure(require, module, entry) : undefined;
  if (noAddon) return noAddon;

  const activeBefore = tf.getBackend() as string | undefined;
  const failure = await startBackend(require, entry, name);
  if (!failure) return undefined;
  if (!loadedBefore) unload(require, entry, registers);
  if (activeBefore && activeBefore !== registers) await tf.setBackend(activeBefore);
  return failure;
}

/** Loads the package, unless it was loaded before, and lets it multiply. */
async function startBackend(
  require: NodeJS.Require,
  entry: string,
  name: BackendName,
): Promise<Failure | undefined> {
  const { module, registers } = packages[name];
  try {
    require(entry);
    if (!(await tf.setBackend(registers))) {
      return { problem: 'load-failed', message: `${module} does not start on this machine.` };
    }
    const product = tf.tidy(() => tf.matMul([[1, 2]], [[3], [4]]).dataSync()[0]);
    if (product === 11) return undefined;
    return { problem: 'wrong-result', message: `${module} says that 1 * 3 + 2 * 4 is ${product}.` };
  } catch (error) {
    return { problem: 'load-failed', message: `${module} does not load: ${firstLine(error)}` };
  }
}

/** Takes back what a package registered. */
function unload(require: NodeJS.Require, entry: string, registers: string): void {
  if (isRegistered(registers)) tf.removeBackend(registers);
  for (const { kernelName } of tf.getKernelsForBackend(registers)) tf.unregisterKernel(kernelName, registers);
  // eslint-disable-next-line @typescript-eslint/no-dynamic-delete -- so that a later load runs it again
  delete require.cache[entry];
}

/** Its types say that there always is a factory. */
function isRegistered(registers: string): boolean {
  return (tf.findBackendFactory(registers) as unknown) !== null;
}

function resolveModule(require: NodeJS.Require, module: string): string | undefined {
  try {
    return require.resolve(module);
  } catch {
    return undefined;
  }
}

/**
 * Why the native addon of a package cannot be used. It is loaded here, before its package is, because a
 * package that fails to load leaves its kernels registered.
 */
function addonFailure(require: NodeJS.Require, module: string, entry: string): Failure | undefined {
  // tfjs-node 4.22 calls what Node 22 warns of and Node 23 took away.
  Object.assign(util, {
    isNullOrUndefined: (value: unknown) => value === null || value === undefined,
    isArray: Array.isArray,
  });
  const libraries = path.resolve(entry, '../../lib'); // the entry is dist/index.js
  const addon = (existsSync(libraries) ? readdirSync(libraries) : [])
    .map((folder) => path.join(libraries, folder, 'tfjs_binding.node'))
    .find((file) => existsSync(file));
  if (!addon) {
    const message = `${module} has no native addon: its install script did not run or could not download it.`;
    return { problem: 'no-addon', message };
  }
  try {
    require(addon);
    return undefined;
  } catch (error) {
    return {
      problem: 'load-failed',
      message: `The native addon of ${module} does not load: ${firstLine(error)}`,
    };
  }
}

function firstLine(error: unknown): string {
  const [line] = (error instanceof Error ? error.message : String(error)).trim().split('\n');
  return line.endsWith('.') ? line : `${line}.`;
}

/** Runs a load without the warnings of TensorFlow.js and the log lines of TensorFlow. */
async function quietly<Result>(load: () => Promise<Result>): Promise<Result> {
  const silent = tf.env().getBool('PROD');
  const level = process.env.TF_CPP_MIN_LOG_LEVEL;
  tf.env().set('PROD', true);
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '3';
  try {
    return await load();
  } finally {
    tf.env().set('PROD', silent);
    if (level === undefined) delete process.env.TF_CPP_MIN_LOG_LEVEL;
  }
}
