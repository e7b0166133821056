/** onnxruntime sessions as the engine opens and runs all of them. */
import type { InferenceSession, Tensor } from 'onnxruntime-common';
import { BundleError, WorkerError } from '../platform/errors.js';
import type { EnginePlatform, GraphInMemory } from '../platform/platform.js';

/** Opens sessions, all with the same settings. */
export interface Sessions {
  readonly Tensor: EnginePlatform['Tensor'];
  /**
   * Opens a session on an ONNX file, or on a graph in memory.
   * @param name how messages call the graph
   * @throws BundleError, PlatformError
   */
  open(graph: string | GraphInMemory, name: string): Promise<InferenceSession>;
}

/** @param threads of one session; 0: as many as onnxruntime thinks */
export function createSessions(platform: EnginePlatform, threads: number): Sessions {
  return {
    Tensor: platform.Tensor,
    open: async (graph, name) => {
      try {
        return await platform.openSession(graph, threads);
      } catch (cause) {
        throw new BundleError(
          `onnxruntime cannot load ${name}: ${(cause as Error).message} The file is damaged, or is no model of this kind.`,
          { cause },
        );
      }
    },
  };
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
