/** The entry of the engine's thread in Node. */
import { parentPort, workerData } from 'node:worker_threads';
import type { CallerApi } from '../engine/api.js';
import { connect } from '../engine/channel.js';
import { createEngine } from '../engine/engine.js';
import { nodePlatform } from './node.js';
import type { ThreadData } from './node-thread.js';

const port = parentPort;
if (!port) throw new Error('This file is the entry of a worker thread of @foveate/lvlm.');

const { cacheDirectory, gate } = workerData as ThreadData;
const engine = createEngine(
  () => nodePlatform(cacheDirectory, gate),
  () => caller,
  () => {
    port.close();
  },
);
const caller = connect<CallerApi, typeof engine>(
  {
    post: (message) => {
      port.postMessage(message);
    },
    listen: (listener) => port.on('message', listener),
  },
  engine,
  ['token'],
);
