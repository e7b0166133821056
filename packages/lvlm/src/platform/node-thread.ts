/** Starts the engine in a worker thread of Node. Runs in the caller's thread. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { WorkerError } from './errors.js';
import type { EngineThread } from './platform.js';

/** What the thread starts with. */
export interface ThreadData {
  /** Folder of what is remembered; null: nothing is. */
  readonly cacheDirectory: string | null;
}

/** @throws WorkerError where the worker's file was not built */
export function startEngineThread(data: ThreadData): EngineThread {
  const worker = new Worker(workerFile(), { workerData: data });
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
