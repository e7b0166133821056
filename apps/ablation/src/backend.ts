/** `--backend`: where reducers before the language model compute. */
import { referenceBackend, type TensorBackend } from '@foveate/core';

/**
 * What can be asked for; in `onnx` the encoder's graph makes the signals and the runner applies the plans.
 */
export const backendNames = ['onnx', 'js', 'tfjs-node-gpu', 'tfjs-node', 'wasm'] as const;
export type BackendName = (typeof backendNames)[number];

/**
 * The backend of that name, and no other in its place; null for `onnx`.
 * @throws BackendUnavailableError where it is not installed or does not work here
 */
export async function openBackend(name: BackendName): Promise<TensorBackend<unknown> | null> {
  switch (name) {
    case 'onnx':
      return null;
    case 'js':
      return referenceBackend;
    case 'tfjs-node-gpu':
      return loadTfjs('node-gpu');
    case 'tfjs-node':
      return loadTfjs('node');
    case 'wasm':
      return loadTfjs('wasm');
  }
}

async function loadTfjs(name: 'node-gpu' | 'node' | 'wasm'): Promise<TensorBackend<unknown>> {
  const { loadBackend } = await import('@foveate/tfjs'); // only here: whoever needs no TensorFlow.js should not wait for it
  const { backend } = await loadBackend({ prefer: [name] });
  return backend;
}
