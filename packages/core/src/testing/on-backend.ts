import type { TensorBackend } from '../backend.js';
import type { TokenReducer } from '../reducer.js';
import type { VisualTokens } from '../visual-tokens.js';

/**
 * The same reducer, its signals held by a backend while it plans and `nearest` answered there: what `reducerConformance` is given to try a reducer on
 * that backend. Every tensor is disposed.
 */
export function onBackend<Reducer extends TokenReducer, Tensor>(
  reducer: Reducer,
  backend: TensorBackend<Tensor>,
): Reducer {
  return { ...reducer, plan: (tokens) => reducer.plan(holdTokens(tokens, backend)) };
}

function holdTokens<Tensor>(tokens: VisualTokens, backend: TensorBackend<Tensor>): VisualTokens {
  return {
    ...tokens,
    signal: async (request) => {
      const values = await tokens.signal(request);
      return withTensor(backend, values, [values.length], (tensor) => backend.download(tensor));
    },
    nearest: async (of, k, layer = 'features') => {
      const keys = await tokens.signal({ signal: 'keys', layer });
      const shape = [tokens.length, Math.max(1, Math.floor(keys.length / tokens.length))]; // [N, C]
      return withTensor(backend, keys, shape, (tensor) => backend.nearestKeys(tensor, of, k));
    },
  };
}

/** Uploads values for one operation. */
export async function withTensor<Tensor, Result>(
  backend: TensorBackend<Tensor>,
  values: Float32Array,
  shape: readonly number[],
  operation: (tensor: Tensor) => Promise<Result>,
): Promise<Result> {
  const tensor = backend.upload(values, shape);
  try {
    return await operation(tensor);
  } finally {
    backend.dispose(tensor);
  }
}
