/** onnxruntime sessions as the runner opens all of them. */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import type { InferenceSession, Tensor } from 'onnxruntime-node';
import { BundleError, WorkerError } from '../platform/errors.js';
import { loadOnnxRuntime } from '../platform/native-libraries.js';

/** A graph in memory whose weights lie in files of `folder`. */
export interface GraphInMemory {
  readonly bytes: Uint8Array;
  readonly folder?: string;
}

/**
 * Opens a session on an ONNX file, or on a graph in memory.
 * @param name how messages call the graph
 * @param threads 0: as many as onnxruntime thinks
 * @throws BundleError, PlatformError
 */
export async function openSession(
  graph: string | GraphInMemory,
  name: string,
  threads: number,
): Promise<InferenceSession> {
  const { InferenceSession } = await loadOnnxRuntime();
  const folder = typeof graph === 'string' ? undefined : graph.folder;
  const options: InferenceSession.SessionOptions = {
    intraOpNumThreads: threads,
    logSeverityLevel: 4, // what goes wrong is thrown; onnxruntime need not write to stderr too
    extra: {
      session: {
        force_spinning_stop: '1', // idle thread pools of one session would starve the next one
        ...(folder !== undefined && { model_external_initializers_file_folder_path: folder }),
      },
    },
  };
  try {
    return await (typeof graph === 'string'
      ? InferenceSession.create(graph, options)
      : InferenceSession.create(graph.bytes, options));
  } catch (cause) {
    throw new BundleError(
      `onnxruntime cannot load ${name}: ${(cause as Error).message} The file is damaged, or is no model of this kind.`,
      { cause },
    );
  }
}

/**
 * Runs a session.
 * @param outputs names to fetch, or tensors to write them into; default all
 * @throws WorkerError
 */
export async function run(
  session: InferenceSession,
  feeds: Record<string, Tensor>,
  outputs?: Record<string, Tensor | null>,
): Promise<Record<string, Tensor>> {
  try {
    return await (outputs ? session.run(feeds, outputs) : session.run(feeds));
  } catch (cause) {
    throw new WorkerError(`onnxruntime failed while it ran the model: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/**
 * The float32 values of an output.
 * @throws BundleError where the output is missing or of another type
 */
export function floats(outputs: Readonly<Partial<Record<string, Tensor>>>, name: string): Float32Array {
  const data = outputs[name]?.data;
  if (data instanceof Float32Array) return data;
  throw new BundleError(
    `The graph's output ${name} is ${outputs[name]?.type ?? 'missing'}; this runner reads float32. Try another dtype of the bundle.`,
  );
}

/**
 * Threads for one session: the physical cores this process may use, because a second thread on a core slows matrix products down.
 * 0 (onnxruntime's own choice, physical cores too) where the system does not tell.
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
