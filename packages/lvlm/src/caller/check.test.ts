/** What a bundle's graphs allow is told without opening them, and is what a call would throw. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { uniform } from '@foveate/baselines';
import { atFeatures, beforeLanguageLayer, classAttention, defineReducer, identityPlan } from '@foveate/core';
import { prumerge } from '@foveate/prumerge';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { pooling } from '@foveate/pooling';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CACHE, copyOfFixture, editJson, FIXTURE, picture } from '../../test/bundles.js';
import { clipGraph } from '../../test/clip-graph.js';
import { familyBundle, familyPicture } from '../../test/families.js';
import { openPlainDecoding } from '../../test/plain-decoding.js';
import { readBundle } from '../bundle/bundle.js';
import { preprocess } from '../bundle/preprocessing.js';
import { DisposedError, Lvlm } from '../index.js';
import { decodeImage } from '../platform/image-files.js';
import { resize } from '../platform/node.js';

describe('check', () => {
  let model: Lvlm;
  beforeAll(async () => {
    model = await Lvlm.load(familyBundle('llava'), { cacheDirectory: CACHE });
  });
  afterAll(() => model.dispose());

  it('passes what runs', async () => {
    for (const reducers of [
      [],
      [fopruRank()],
      [pooling()],
      [fastv({ layer: 1 })],
      [fopruRank(), fastv({ layer: 1 })],
    ])
      await expect(model.check(reducers)).resolves.toBeUndefined();
  });

  it('throws what a call throws', async () => {
    const plan = async ({ length }: { length: number }) => identityPlan(length);
    const chains = [
      [prumerge()], // SigLIP has no class token
      [fastv({ layer: 99 })],
      [fastv({ layer: 1 }), fopruRank()],
      [
        defineReducer({
          name: 'early',
          at: [atFeatures],
          requires: { cls: classAttention({ layer: 0 }) },
          plan,
        }),
      ],
      [defineReducer({ name: 'deep', at: [beforeLanguageLayer(1)], requires: {}, plan }), pooling()],
    ];
    for (const reducers of chains) {
      const told = await model.check(reducers).catch((error: unknown) => error);
      const images = [familyPicture([1, 56, 56])];
      const thrown = await model.generate({ images, prompt: 'x', reducers }).catch((error: unknown) => error);
      expect(told).toBeInstanceOf(Error);
      expect(told).toEqual(thrown);
    }
  });

  it('leaves methods that read no attention where the encoder has none, as in FastVLM', async () => {
    const bundle = await copyOfFixture();
    const flat = { text_config: undefined, vision_config: undefined, eos_token_id: 2 };
    await editJson(bundle, 'config.json', { ...flat, model_type: 'llava_qwen2' });
    const sizes = { layers: 0, width: 32, heads: 2, inner: 64, imageSize: 64, patchSize: 8, output: 24 };
    const file = path.join(bundle, 'onnx', 'vision_encoder.onnx'); // patches by a convolution, and a projector
    await writeFile(file, clipGraph(sizes));
    const convolutional = await Lvlm.load(bundle, { cacheDirectory: CACHE });
    await expect(convolutional.check([fopruRank()])).rejects.toThrow(
      /vision encoder cannot be patched.*attention/s,
    );
    const reducers = [uniform({ keepCount: 9 })];
    await convolutional.check(reducers);
    const call = { images: [picture(1)], prompt: 'What is it?', reducers, maxNewTokens: 6 };
    const { tokenIds, images } = await convolutional.generate(call);
    await convolutional.dispose();

    const { family, text } = await readBundle(bundle, 'fp32');
    const { data } = await preprocess(
      await decodeImage(picture(1), 'image', 2 ** 26),
      family.preprocessing,
      resize,
    );
    const encoder = await InferenceSession.create(file);
    const { image_features: features } = await encoder.run({
      pixel_values: new Tensor('float32', data, [1, 3, 64, 64]),
    });
    const kept = images[0].crops[0].steps[0].kept ?? [];
    expect(kept).toHaveLength(9);
    const rows = kept.map((token) => (features.data as Float32Array).slice(token * 24, (token + 1) * 24));
    const plain = await openPlainDecoding(FIXTURE);
    const ids = text.encodeTurns([{ role: 'user', text: 'What is it?', images: 1 }]);
    expect(tokenIds).toEqual(await plain.answer(ids, [rows], 6));
  });

  it('takes no model that is gone', async () => {
    const gone = await Lvlm.load(familyBundle('llava'), { cacheDirectory: CACHE });
    await gone.dispose();
    await expect(gone.check([])).rejects.toThrow(DisposedError);
  });
});
