import type { TensorBackend } from '../backend.js';
import type { SignalRequest } from '../signals/define-signal.js';
import type { TokenSource } from '../token-source.js';

/**
 * The same tokens, whose signals a backend holds while they are read, and what is alike answered there: how
 * `reducerConformance` tries a reducer on that backend (`tokens: (source) => onBackend(source, backend)`).
 * Every tensor is disposed.
 */
export function onBackend<Tensor>(tokens: TokenSource, backend: TensorBackend<Tensor>): TokenSource {
  const withRows = async <Result>(
    rows: SignalRequest,
    operation: (tensor: Tensor) => Promise<Result>,
  ): Promise<Result> => {
    const values = await tokens.signal(rows);
    const shape = [tokens.length, Math.max(1, Math.floor(values.length / tokens.length))]; // [N, D]
    return withTensor(backend, values, shape, operation);
  };
  return {
    ...tokens,
    signal: async (request) => {
      const values = await tokens.signal(request);
      return withTensor(backend, values, [values.length], (tensor) => backend.download(tensor));
    },
    nearest: (rows, of, k) => withRows(rows, (tensor) => backend.nearest(tensor, of, k)),
    similarity: (rows, to, measure) => withRows(rows, (tensor) => backend.similarity(tensor, to, measure)),
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
