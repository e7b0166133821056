import {
  atFeatures,
  attentionReceived,
  classAttention,
  defineReducer,
  GridRequiredError,
  identityPlan,
  InvalidArgumentError,
  InvalidSignalError,
  keys,
  selectionPlan,
  type TokenReducer,
} from '@foveate/core';
import { fopruRank } from '@foveate/fopru-rank';
import { pooling } from '@foveate/pooling';
import { prumerge } from '@foveate/prumerge';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import { select } from './apply-plan.js';
import { loadBackend } from './load-backend.js';
import { reduce, reduceBatch, reducePadded, type ImageTensors } from './reduce.js';

beforeAll(async () => {
  await loadBackend({ prefer: ['cpu'] });
});

// CLS and three tokens; the tokens receive .5, 1.25, .5 (of three queries), give .75 each.
const attention = (): tf.Tensor3D =>
  tf.tensor3d(
    [0.25, 0.25, 0.5, 0, 0.25, 0.25, 0.25, 0.25, 0.25, 0.125, 0.5, 0.125, 0.25, 0.125, 0.5, 0.125],
    [1, 4, 4],
  );
const features = (): tf.Tensor2D => tf.tensor2d([1, 10, 2, 20, 3, 30], [3, 2]);
const one = fopruRank({ keepCount: 1 });

describe('reduce', () => {
  it('reduces features by their attention, with CLS or without', async () => {
    const withClass = await reduce(one, { features: features(), attention: attention() });
    expect(await withClass.features.array()).toEqual([[2, 20]]);
    expect([...withClass.plan.sources]).toEqual([1]);
    const tokens = tf.slice(attention(), [0, 1, 1], [1, 3, 3]);
    const without = await reduce(one, { features: features(), attention: tokens });
    expect(await without.features.array()).toEqual([[2, 20]]);
  });

  it('takes a batch axis of one on each tensor', async () => {
    const { features: reduced } = await reduce(one, {
      features: tf.expandDims(features()),
      attention: tf.expandDims(attention()),
    });
    expect(reduced.shape).toEqual([1, 2]);
  });

  it('says that class attention is a mean over heads, unless it is given', async () => {
    const rows = { ...keys(), values: tf.tensor2d([1, 0, 1, 1, 0, 1], [3, 2]) };
    const merging = prumerge({ keepCount: 2 });
    const tensors: ImageTensors = { features: features(), attention: attention(), signals: [rows] };
    const { plan } = await reduce(merging, tensors);
    expect([...plan.anchors]).toEqual([1, 0]); // class attention .25, .5, 0
    expect(plan.warnings).toEqual([expect.stringContaining('mean over heads')]);
    const signals = [rows, { ...classAttention(), values: tf.tensor1d([0, 0, 0.5]) }];
    const given = await reduce(merging, { ...tensors, signals });
    expect([...given.plan.anchors]).toEqual([2, 0]);
    expect(given.plan.warnings).toEqual([]);
  });

  it('reads the maps of several layers, alone and in a batch', async () => {
    const seen: number[][] = [];
    const look = defineReducer({
      name: 'look',
      at: [atFeatures],
      requires: { here: attentionReceived(), there: attentionReceived({ layer: 1 }) },
      plan: async ({ length, signals: { here, there } }) => {
        seen.push([...here], [...there]);
        return identityPlan(length);
      },
    });
    const other = tf.reverse(attention(), [1, 2]); // its first token is then no CLS; the map is without one
    const maps = [{ values: attention() }, { layer: 1, values: tf.slice(other, [0, 0, 0], [1, 3, 3]) }];
    await reduce(look, { features: features(), attention: maps });
    const batched = maps.map((map) => ({ ...map, values: tf.stack([map.values, map.values]) }));
    await reduceBatch(look, { features: tf.stack([features(), features()]), attention: batched });
    const [here, there] = seen;
    expect(here).toEqual([0.5, 1.25, 0.5].map((sum) => expect.closeTo(sum / 3, 6) as number));
    expect(there).toEqual([0.5, 1.25, 0.5].map((sum) => expect.closeTo(sum / 3, 6) as number));
    expect(seen).toEqual([here, there, here, there, here, there]);
  });

  it('refuses tensors that do not fit, naming them', async () => {
    const fails = async (change: Partial<ImageTensors>, message: string): Promise<void> => {
      const promise = reduce(one, { features: features(), attention: attention(), ...change });
      await expect(promise).rejects.toThrow(InvalidArgumentError);
      await expect(promise).rejects.toThrow(message);
    };
    const gone = features();
    gone.dispose();
    await fails({ features: gone }, 'a tensor that still lives');
    await fails({ features: tf.cast(features(), 'int32') }, 'features.dtype must be float32');
    await fails({ features: tf.zeros([2, 3, 2]) }, 'reduceBatch takes more');
    await fails({ features: [1, 2] as unknown as tf.Tensor }, 'features must be a tf.Tensor');
    await fails({ features: tf.zeros([5, 2]) }, 'attention.shape must be of 5 or 6 tokens');
    await fails(
      { signals: [{ ...keys(), values: tf.zeros([2, 2]) }] },
      'keys@features:joined.shape must be of 3 tokens',
    );
    await fails({ signals: [{ ...keys(), values: gone }] }, 'keys@features:joined must be a tensor that');
    await fails({ grid: { rows: 2, columns: 2 } }, 'tokens.grid must be');
    await fails({ attention: tf.zeros([1, 3, 4]) }, 'attention.shape must be [H, S, S]');
  });

  it("lets the reducer's own errors through", async () => {
    await expect(reduce(pooling(), { features: features() })).rejects.toThrow(GridRequiredError);
    const nan = tf.fill([1, 3, 3], NaN);
    await expect(reduce(one, { features: features(), attention: nan })).rejects.toThrow(InvalidSignalError);
  });
});

/** Keeps as many tokens as its image's hash says. */
const byHash = defineReducer({
  name: 'by-hash',
  at: [atFeatures],
  requires: {},
  plan: async ({ length, imageHash }) =>
    selectionPlan(
      Array.from({ length: Number(imageHash) }, (_, i) => i),
      length,
    ),
});

describe('a batch', () => {
  const batch = (): tf.Tensor3D => tf.tensor3d([1, 2, 3, 4, 5, 6], [2, 3, 1]);

  it('is reduced image by image', async () => {
    const maps = tf.stack([attention(), tf.reverse(attention(), [1, 2])]); // reversed: without CLS in front, so by its last three
    const reductions = await reduceBatch(one, { features: batch(), attention: maps });
    expect(reductions).toHaveLength(2);
    expect(await reductions[0].features.array()).toEqual([[2]]);
  });

  it('gives what its images give one by one, of several heads', async () => {
    const maps = tf.softmax<tf.Tensor4D>(tf.randomUniform([2, 3, 4, 4], 0, 9, 'float32', 7));
    const two = fopruRank({ keepCount: 2 });
    const reductions = await reduceBatch(two, { features: batch(), attention: maps });
    for (const [i, { plan }] of reductions.entries()) {
      const image = { features: tf.slice(batch(), i, 1), attention: tf.slice(maps, i, 1) };
      expect(plan.sources).toEqual((await reduce(two, image)).plan.sources);
    }
  });

  it('may keep different numbers of tokens, as an array or padded with a mask', async () => {
    const imageHashes = ['1', '2'];
    const ragged = await reduceBatch(byHash, { features: batch(), imageHashes });
    expect(await Promise.all(ragged.map(({ features }) => features.array()))).toEqual([[[1]], [[4], [5]]]);
    const padded = await reducePadded(byHash, { features: batch(), imageHashes });
    expect(await padded.features.array()).toEqual([
      [[1], [0]],
      [[4], [5]],
    ]);
    expect(padded.mask.dtype).toBe('bool');
    expect(await padded.mask.array()).toEqual([
      [1, 0],
      [1, 1],
    ]);
    expect(padded.plans.map(({ outputLength }) => outputLength)).toEqual([1, 2]);
  });

  it('fails as a whole, naming what does not fit', async () => {
    const features = batch();
    await expect(reduceBatch(one, { features, attention: tf.zeros([1, 1, 3, 3]) })).rejects.toThrow(
      'of 2 images',
    );
    for (const shape of [
      [2, 1, 3, 4],
      [2, 0, 3, 3],
      [2, 1, 5, 5], // of 4 tokens and CLS
    ]) {
      await expect(reduceBatch(one, { features, attention: tf.zeros(shape) })).rejects.toThrow(
        'attention.shape must be [B, H, S, S], S = 3 or, with CLS, 4; received [2,',
      );
    }
    const vectors = [{ ...keys(), values: tf.zeros([2]) }];
    await expect(reduceBatch(one, { features, signals: vectors })).rejects.toThrow(
      'keys@features:joined.shape must be [B, N] or [B, N, D]',
    );
    await expect(reduceBatch(one, { features: tf.zeros([3, 1]) })).rejects.toThrow(
      'features.shape must be [B, N, D]',
    );
    const uncalled = fopruRank as unknown as TokenReducer;
    const refused = 'as fopruRank() returns one; received the function fopruRank';
    await expect(reduceBatch(uncalled, { features })).rejects.toThrow(refused);
    await expect(reduce(uncalled, { features: tf.zeros([3, 1]) })).rejects.toThrow(refused);
    await expect(reduceBatch(byHash, { features, imageHashes: ['1'] })).rejects.toThrow(
      'imageHashes must be',
    );
    await expect(reduceBatch(byHash, { features, imageHashes: ['1', '0'] })).rejects.toThrow(
      'nothing was kept',
    );
  });
});

describe('select', () => {
  it('keeps tokens in the order given', async () => {
    expect(await select(features(), [2, 0]).array()).toEqual([
      [3, 30],
      [1, 10],
    ]);
    expect(() => select(features(), [3])).toThrow('sources');
    expect(() => select(tf.zeros([3]), [0])).toThrow('features.shape must be [N, D]');
  });
});
