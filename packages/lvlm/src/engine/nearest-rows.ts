/** Which rows of a signal are alike, answered in the engine: they are wide and stay there. */
import { nearestRowsWith, type RowProducts } from '@foveate/core';
import { rowProductsGraph } from '@foveate/onnx-graph';
import type { InferenceSession, Tensor } from 'onnxruntime-common';
import { floats, run, type Sessions } from './sessions.js';

/** Finds nearest rows [N, D], see `Neighbours` of @foveate/core. */
export type NearestRows = (
  rows: Float32Array,
  length: number,
  of: Uint32Array,
  k: number,
) => Promise<Uint32Array>;

/** Multiplies in onnxruntime; the session is opened when it is first needed. */
export function createNearestRows(sessions: Sessions): NearestRows {
  let session: Promise<InferenceSession> | undefined;
  const products: RowProducts = async (rows, others, channels) => {
    session ??= sessions.open({ bytes: rowProductsGraph() }, 'the graph of products');
    const matrix = (data: Float32Array): Tensor =>
      new sessions.Tensor('float32', data, [data.length / channels, channels]);
    return floats(await run(await session, { rows: matrix(rows), others: matrix(others) }), 'products');
  };
  return (rows, length, of, k) => nearestRowsWith(products, rows, length, of, k);
}
