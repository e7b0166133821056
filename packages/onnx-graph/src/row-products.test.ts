import * as ort from 'onnxruntime-node';
import { expect, it } from 'vitest';
import { rowProductsGraph } from './row-products.js';

it('multiplies every row with every other', async () => {
  const session = await ort.InferenceSession.create(rowProductsGraph());
  const rows = new ort.Tensor('float32', [1, 2, 3, 0, -1, 0.5], [2, 3]);
  const others = new ort.Tensor('float32', [1, 0, 0, 2, 2, 2, 0, 0, 4], [3, 3]);
  const { products } = await session.run({ rows, others });
  expect(products.dims).toEqual([2, 3]);
  expect([...(products.data as Float32Array)]).toEqual([1, 12, 12, 0, -1, 2]);
});
