/** onnxruntime sessions as the engine opens and runs all of them. */
import type { InferenceSession, Tensor } from 'onnxruntime-common';
import { rowProductsGraph } from '@foveate/onnx-graph';
import { deviceNeeds, type Device } from '../platform/devices.js';
import { BundleError, PlatformError, WorkerError } from '../platform/errors.js';
import type { EnginePlatform, GraphInMemory, SessionOptions } from '../platform/platform.js';
import { fromHalf, toHalf } from './half-precision.js';

/** Opens sessions, all with the same settings. */
export interface Sessions {
  readonly Tensor: EnginePlatform['Tensor'];
  readonly device: Device;
  /**
   * Opens a session on an ONNX file, or on a graph in memory.
   * @param name how messages call the graph
   * @throws BundleError, PlatformError
   */
  open(graph: string | GraphInMemory, name: string): Promise<InferenceSession>;
}

/** Sessions that are opened with `options`. */
export function createSessions(platform: EnginePlatform, options: SessionOptions): Sessions {
  return {
    Tensor: platform.Tensor,
    device: options.device,
    open: async (graph, name) => {
      try {
        const session = await platform.openSession(graph, options);
        rememberHalves(session, platform.Tensor);
        return session;
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
 * Opens and runs a small graph, to tell a device that is not there from a graph that cannot be read.
 * @throws PlatformError
 */
export async function checkDevice(platform: EnginePlatform, options: SessionOptions): Promise<void> {
  const { device } = options;
  if (device === 'cpu') return;
  try {
    const session = await platform.openSession({ bytes: rowProductsGraph() }, options);
    const row = new platform.Tensor('float32', new Float32Array(4), [1, 4]);
    await session.run({ rows: row, others: row });
    await session.release();
  } catch (cause) {
    throw new PlatformError(
      `onnxruntime cannot use the device ${device} here. ${deviceNeeds[device]} Or choose the device cpu. onnxruntime says: ${(cause as Error).message.split('\n')[0]}`,
      { cause },
    );
  }
}

/** What sessions take as float16, and what makes such tensors; nothing of sessions that take none. */
const halves = new WeakMap<
  InferenceSession,
  { readonly inputs: ReadonlySet<string>; readonly Tensor: EnginePlatform['Tensor'] }
>();

function rememberHalves(session: InferenceSession, Tensor: EnginePlatform['Tensor']): void {
  const names = session.inputMetadata.filter((input) => input.isTensor && input.type === 'float16');
  if (names.length > 0) halves.set(session, { inputs: new Set(names.map(({ name }) => name)), Tensor });
}

/** The feeds, those of float32 that the session takes as float16 as such. */
function inOwnPrecision(session: InferenceSession, feeds: Record<string, Tensor>): Record<string, Tensor> {
  const half = halves.get(session);
  if (!half) return feeds;
  const { inputs, Tensor } = half;
  return Object.fromEntries(
    Object.entries(feeds).map(([name, tensor]) => {
      const { data, dims } = tensor;
      const given = inputs.has(name) && data instanceof Float32Array;
      return [name, given ? new Tensor('float16', toHalf(data), dims) : tensor];
    }),
  );
}

/**
 * Runs a session. Feeds of float32 that it takes as float16 are given as such.
 * @param outputs names to fetch, or tensors to write them into; default all
 * @throws WorkerError
 */
export async function run(
  session: InferenceSession,
  feeds: Record<string, Tensor>,
  outputs?: Record<string, Tensor | null>,
): Promise<Record<string, Tensor>> {
  try {
    const own = inOwnPrecision(session, feeds);
    return await (outputs ? session.run(own, outputs) : session.run(own));
  } catch (cause) {
    throw new WorkerError(`onnxruntime failed while it ran the model: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/**
 * The values of an output of float32 or float16.
 * @throws BundleError where the output is missing or of another type
 */
export function floats(outputs: Readonly<Partial<Record<string, Tensor>>>, name: string): Float32Array {
  const data = outputs[name]?.data;
  if (data instanceof Float32Array) return data;
  if (outputs[name]?.type === 'float16') return fromHalf(data as unknown as Uint16Array);
  throw new BundleError(
    `The graph's output ${name} is ${outputs[name]?.type ?? 'missing'}; this runner reads float32 and float16. Try another dtype of the bundle.`,
  );
}
