import {
  nearestRowsWith,
  referenceBackend,
  similarityWith,
  type ComparedRows,
  type HostTensor,
  type SimilarityMeasure,
} from '@foveate/core';
import { backendConformance, type ConformanceCase } from '@foveate/core/testing';
import { describe, expect, it } from 'vitest';
import { nodePlatform } from '../platform/node.js';
import { openGate } from '../platform/run-gate.js';
import { createRowProducts } from './row-products.js';
import { createSessions } from './sessions.js';

const products = createRowProducts(
  createSessions(await nodePlatform(null, openGate()), { threads: 1, device: 'cpu' }),
);

describe('rows compared by onnxruntime', () => {
  const backend = {
    ...referenceBackend,
    name: 'onnxruntime',
    nearest: async ({ data, shape }: HostTensor, of: Uint32Array, k: number) => {
      // Only what a reducer may ask of an image reaches the engine.
      if (shape.length !== 2) return referenceBackend.nearest({ data, shape }, of, k);
      return nearestRowsWith(products, data, shape[0], of, k);
    },
    similarity: async ({ data, shape }: HostTensor, to: ComparedRows, measure: SimilarityMeasure) => {
      if (shape.length !== 2) return referenceBackend.similarity({ data, shape }, to, measure);
      return similarityWith(products, data, shape[0], to, measure);
    },
  };
  const cases: ConformanceCase[] = backendConformance({ create: () => backend });
  for (const { name, run } of cases) it(name, run);

  it('are those of plain JS where keys are long and many of them nearly alike', async () => {
    let state = 1;
    const next = (): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32 - 0.5;
    const [length, channels] = [200, 192];
    const data = Float32Array.from({ length: length * channels }, next);
    for (let token = 100; token < length; token++) {
      // Copies of one key, some of them off by a bit of one number.
      data.copyWithin(token * channels, 0, channels);
      if (token % 3 === 0) data[token * channels] *= 1 + 2 ** -22;
    }
    const of = Uint32Array.from({ length: 120 }, (_, i) => i);
    const keys = { data, shape: [length, channels] };
    expect(await backend.nearest(keys, of, 32)).toEqual(await referenceBackend.nearest(keys, of, 32));
  });
});
