import { describe, expect, test } from 'vitest';
import { BATCH, CHANNELS, FIXTURES, fixture, pixels, run } from '../../fixtures/run.js';
import { readModel } from '../files.js';
import { addSignals, findVisionEncoder } from '../index.js';

const HEADS = 4;
const HEAD = CHANNELS / HEADS;

/** Softmax of the scaled products of a query with all keys, each [D] of one head. */
function softmax(query: Float32Array, keys: readonly Float32Array[]): number[] {
  const scores = keys.map((key) => query.reduce((sum, q, d) => sum + q * key[d], 0) / Math.sqrt(HEAD));
  const largest = Math.max(...scores);
  const shares = scores.map((score) => Math.exp(score - largest));
  const total = shares.reduce((a, b) => a + b);
  return shares.map((share) => share / total);
}

describe.each(FIXTURES)('$name', ({ name, layers, patches, tolerance }) => {
  const model = readModel(fixture(`${name}.onnx`));
  const encoder = findVisionEncoder(model, { output: 'image_features' });

  test('with the keys they make the attention among the patches, head by head', async () => {
    for (let layer = 0; layer < layers; layer++) {
      const names = ['queries', 'keys', 'attentionMap'];
      const requests = names.map((signal) => ({ name: signal, layer }));
      const { model: patched, outputs } = addSignals(model, encoder, requests);
      const out = await run(patched, { [encoder.input]: pixels() });
      const [queries, keys, map] = outputs.map((output) => out[output]);
      expect(queries.dims).toEqual([BATCH, patches, CHANNELS]);
      const side = map.dims[3];
      const first = side - patches; // the class token's row and column
      const head = (rows: Float32Array, image: number, patch: number, h: number): Float32Array => {
        const start = (image * patches + patch) * CHANNELS + h * HEAD;
        return rows.subarray(start, start + HEAD);
      };
      for (let image = 0; image < BATCH; image++) {
        for (let h = 0; h < HEADS; h++) {
          const all = Array.from({ length: patches }, (_, j) => head(keys.data as Float32Array, image, j, h));
          for (let i = 0; i < patches; i++) {
            const expected = softmax(head(queries.data as Float32Array, image, i, h), all);
            const start = ((image * HEADS + h) * side + i + first) * side + first;
            const row = (map.data as Float32Array).subarray(start, start + patches);
            const among = row.reduce((a, b) => a + b);
            for (const [j, share] of expected.entries())
              expect(Math.abs(row[j] / among - share)).toBeLessThan(64 * tolerance.attention);
          }
        }
      }
    }
  });

  test('their mean is that of the heads side by side', async () => {
    const requests = [{ name: 'queries' }, { name: 'queries', heads: 'mean' }];
    const { model: patched, outputs } = addSignals(model, encoder, requests);
    const out = await run(patched, { [encoder.input]: pixels() });
    const [joined, mean] = outputs.map((output) => out[output].data as Float32Array);
    expect(mean).toHaveLength(joined.length / HEADS);
    for (const [i, value] of mean.entries()) {
      const [row, d] = [Math.floor(i / HEAD), i % HEAD];
      const heads = Array.from({ length: HEADS }, (_, h) => joined[row * CHANNELS + h * HEAD + d]);
      expect(Math.abs(value - heads.reduce((a, b) => a + b) / HEADS)).toBeLessThan(tolerance.features);
    }
  });
});
