/** The platform Node: sharp, onnxruntime-node, files. */
import { createHash } from 'node:crypto';
import { createReadStream, readFileSync } from 'node:fs';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import path from 'node:path';
import { describeModel, serializeModel } from '@foveate/onnx-graph';
import { readModel } from '@foveate/onnx-graph/files';
import type { InferenceSession } from 'onnxruntime-node';
import type { DecodedImage, Interpolation, Size } from '../bundle/preprocessing.js';
import { now } from './clock.js';
import { FileStamps } from './file-stamps.js';
import { loadOnnxRuntime, loadSharp } from './native-libraries.js';
import { FirstRunProfile } from './fallbacks.js';
import type { EnginePlatform, GraphInMemory, SessionOptions, VerdictStore } from './platform.js';
import { through, type GateMemory } from './run-gate.js';

/**
 * What the engine needs of Node.
 * @param cacheDirectory folder of what is remembered; null: nothing is
 * @param gate what onnxruntime is called through
 * @throws PlatformError
 */
export async function nodePlatform(cacheDirectory: string | null, gate: GateMemory): Promise<EnginePlatform> {
  const { InferenceSession, Tensor } = await through(gate, loadOnnxRuntime);
  const stamps = new FileStamps();
  const fallbacks = new Set<string>();
  return {
    Tensor,
    openSession: async (graph, options) => {
      if (typeof graph === 'string') await stamps.remember([graph]);
      const profile = options.device === 'cpu' ? null : await FirstRunProfile.begin();
      try {
        const open = (): Promise<InferenceSession> => openSession(InferenceSession, graph, options, profile);
        const session = gated(await through(gate, open), gate);
        return profile ? profiled(session, profile, fallbacks) : session;
      } catch (error) {
        await profile?.remove();
        throw error;
      }
    },
    fallbacks: () => [...fallbacks],
    readModel: async (file) => {
      const model = readModel(file);
      const weights = describeModel(model).weightFiles;
      await stamps.remember([file, ...weights.map((name) => path.join(model.folder ?? '', name))]);
      return model;
    },
    changedFile: () => stamps.changed(),
    hashFile,
    totalMemory: totalmem(),
    now,
    verdicts: cacheDirectory === null ? null : verdictsIn(path.join(cacheDirectory, 'identity')),
  };
}

async function openSession(
  runtime: typeof InferenceSession,
  graph: string | GraphInMemory,
  { threads, device }: SessionOptions,
  profile: FirstRunProfile | null,
): Promise<InferenceSession> {
  // Of a file onnxruntime would read the weights into memory first, and lay them out for its kernels then.
  const { bytes, folder } = typeof graph === 'string' ? serializeModel(readModel(graph)) : graph;
  const options: InferenceSession.SessionOptions = {
    executionProviders: [device],
    intraOpNumThreads: threads,
    ...(profile && { enableProfiling: true, profileFilePrefix: profile.prefix }),
    logSeverityLevel: 4, // what goes wrong is thrown; onnxruntime need not write to stderr too
    extra: {
      session: {
        force_spinning_stop: '1', // idle thread pools of one session would starve the next one
        ...(folder !== undefined && { model_external_initializers_file_folder_path: folder }),
      },
    },
  };
  return runtime.create(bytes, options);
}

/** The session, its native calls through the gate. */
function gated(session: InferenceSession, gate: GateMemory): InferenceSession {
  const native = { run: session.run.bind(session), release: session.release.bind(session) };
  return Object.assign(session, {
    run: (...parameters: Parameters<InferenceSession['run']>) =>
      through(gate, () => native.run(...parameters)),
    release: () => through(gate, native.release),
  });
}

/** The session, what its first run left to the processor told to `fallbacks`. */
function profiled(
  session: InferenceSession,
  profile: FirstRunProfile,
  fallbacks: Set<string>,
): InferenceSession {
  const run = session.run.bind(session);
  const release = session.release.bind(session);
  const first = async (
    ...parameters: Parameters<InferenceSession['run']>
  ): ReturnType<InferenceSession['run']> => {
    session.run = run;
    const outputs = await run(...parameters);
    session.endProfiling();
    for (const operator of await profile.operatorsOnCpu()) fallbacks.add(operator);
    await profile.remove();
    return outputs;
  };
  return Object.assign(session, {
    run: first,
    release: async () => {
      await release();
      await profile.remove(); // of a session that never ran
    },
  });
}

async function hashFile(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(file)) hash.update(chunk as Uint8Array);
  return hash.digest('hex');
}

/** A file a verdict. Written under another name and moved, so that no reader meets half a file. */
function verdictsIn(folder: string): VerdictStore {
  const fileOf = (name: string): string =>
    path.join(folder, `${createHash('sha256').update(name).digest('hex')}.json`);
  return {
    read: (name) => readFile(fileOf(name), 'utf8').catch(() => null),
    write: async (name, text) => {
      const temporary = `${fileOf(name)}.${process.pid}.${Date.now()}`;
      try {
        await mkdir(folder, { recursive: true });
        await writeFile(temporary, text);
        await rename(temporary, fileOf(name));
      } catch {
        // A cache: nothing is lost without it.
      }
    },
  };
}

/** Resamples an image, as transformers.js does it through sharp. */
export async function resize(
  image: DecodedImage,
  { width, height }: Size,
  interpolation: Interpolation,
): Promise<DecodedImage> {
  if (image.width === width && image.height === height) return image;
  const sharp = await loadSharp();
  const input = sharp(image.data, { raw: { width: image.width, height: image.height, channels: 3 } });
  const scaled =
    interpolation === 'lanczos'
      ? input.resize({ width, height, fit: 'fill', kernel: 'lanczos3' })
      : input.affine([width / image.width, 0, 0, height / image.height], { interpolator: interpolation });
  const { data, info } = await scaled.raw().toBuffer({ resolveWithObject: true });
  return { data, width: info.width, height: info.height };
}

/**
 * Threads for one session: the physical cores this process may use, because a second thread on a core slows
 * matrix products down. 0 (onnxruntime's own choice, physical cores too) where the system does not tell.
 */
export function defaultThreads(): number {
  if (process.platform !== 'linux') return 0;
  try {
    const cores = new Set<string>();
    for (const block of readFileSync('/proc/cpuinfo', 'utf8').split('\n\n')) {
      const core = /^core id\s*:\s*(\d+)/m.exec(block);
      const socket = /^physical id\s*:\s*(\d+)/m.exec(block);
      if (core && socket) cores.add(`${socket[1]}:${core[1]}`);
    }
    return Math.min(cores.size || availableParallelism(), availableParallelism());
  } catch {
    return 0;
  }
}
