/** What reducers ask of an image's keys, answered in the worker: they are wide and stay there. */
import { createVisualTokens, nearestKeysWith, type RowProducts } from '@foveate/core';
import { rowProductsGraph } from '@foveate/onnx-graph';
import type { InferenceSession } from 'onnxruntime-node';
import type { EncodedImage } from './encoder.js';
import { loadOnnxRuntime } from '../platform/native-libraries.js';
import type { KeysQuery } from './protocol.js';
import { floats, openSession, run } from './sessions.js';

/** Answers a question about the keys of an encoded image. */
type AnswerKeys = (
  encoded: Pick<EncodedImage, 'features' | 'signals'>,
  query: KeysQuery,
) => Promise<Float32Array | Uint32Array>;

/** @param threads - as {@link openSession} takes them */
export function createAnswerKeys(threads: number): AnswerKeys {
  const products = createRowProducts(threads);
  return async ({ features: { length }, signals }, query) => {
    const keys = await createVisualTokens({ length, signals }).signal(query.request);
    return query.ask === 'keys' ? keys : nearestKeysWith(products, keys, length, query.of, query.k);
  };
}

/** Multiplies in onnxruntime; the session is opened when it is first needed. */
function createRowProducts(threads: number): RowProducts {
  let session: Promise<InferenceSession> | undefined;
  return async (rows, others, channels) => {
    session ??= openSession({ bytes: rowProductsGraph() }, 'the graph of products', threads);
    const { Tensor } = await loadOnnxRuntime();
    const matrix = (data: Float32Array): InstanceType<typeof Tensor> =>
      new Tensor('float32', data, [data.length / channels, channels]);
    return floats(await run(await session, { rows: matrix(rows), others: matrix(others) }), 'products');
  };
}
