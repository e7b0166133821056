/** Products of rows, in onnxruntime: which rows of a signal are alike is answered where they are. */
import type { RowProducts } from '@foveate/core';
import { rowProductsGraph } from '@foveate/onnx-graph';
import type { InferenceSession, Tensor } from 'onnxruntime-common';
import { floats, run, type Sessions } from './sessions.js';

/** Multiplies in onnxruntime; the session is opened when it is first needed. */
export function createRowProducts(sessions: Sessions): RowProducts {
  let session: Promise<InferenceSession> | undefined;
  return async (rows, others, channels) => {
    session ??= sessions.open({ bytes: rowProductsGraph() }, 'the graph of products');
    const matrix = (data: Float32Array): Tensor =>
      new sessions.Tensor('float32', data, [data.length / channels, channels]);
    return floats(await run(await session, { rows: matrix(rows), others: matrix(others) }), 'products');
  };
}
