/** Starts the engine in a worker thread of Node. Runs in the caller's thread. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { WorkerError } from './errors.js';
import type { EngineThread } from './platform.js';
import { awaitOutside, closeGate, openGate, type GateMemory } from './run-gate.js';

/** What the thread starts with. */
export interface ThreadData {
  /** Folder of what is remembered; null: nothing is. */
  readonly cacheDirectory: string | null;
  /** What all native work goes through. */
  readonly gate: GateMemory;
}

/** Gates of the threads that live: one listener of the process for all of them. */
const gates = new Set<GateMemory>();

/** @throws WorkerError where the worker's file was not built */
export function startEngineThread(data: Omit<ThreadData, 'gate'>): EngineThread {
  const gate = openGate();
  const worker = new Worker(workerFile(), {
    workerData: { ...data, gate } satisfies ThreadData,
    execArgv: [], // what the process was started with is about its own script: --input-type, --eval
  });
  worker.on('exit', closeAtExit(gate));
  return {
    port: {
      post: (message) => {
        worker.postMessage(message);
      },
      listen: (listener) => worker.on('message', listener),
    },
    ended: new Promise((resolve, reject) => {
      worker.on('error', reject);
      worker.on('exit', resolve);
    }),
    keepAlive: (alive) => {
      if (alive) worker.ref();
      else worker.unref();
    },
  };
}

/** Has the gate closed before the process ends. Returns what undoes that. */
function closeAtExit(gate: GateMemory): () => void {
  if (gates.size === 0) process.on('exit', closeGates);
  gates.add(gate);
  return () => {
    gates.delete(gate);
    if (gates.size === 0) process.off('exit', closeGates);
  };
}

function closeGates(): void {
  for (const gate of gates) closeGate(gate);
  for (const gate of gates) awaitOutside(gate);
}

/** Node runs no TypeScript in a worker: from source, the built file is used. */
function workerFile(): string {
  const file = fileURLToPath(
    new URL(import.meta.url.endsWith('.ts') ? '../../dist/worker.js' : './worker.js', import.meta.url),
  );
  if (existsSync(file)) return file;
  throw new WorkerError(
    `${file} is missing: build @foveate/lvlm (npm run build-worker), or install it again.`,
  );
}
