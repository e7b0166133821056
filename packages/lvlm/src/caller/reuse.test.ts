/** Answers with `reuseEncoding` are those without it. */
import { fopruRank } from '@foveate/fopru-rank';
import { random } from '@foveate/baselines';
import { pooling } from '@foveate/pooling';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CACHE, FIXTURE, picture, temporaryFolder } from '../../test/bundles.js';
import type { EncodedCrop } from '../engine/encoder.js';
import { encodingOnce } from '../engine/vision.js';
import { ImageError, Lvlm, readImage } from '../index.js';
import type { PixelValues } from '../bundle/preprocessing.js';

let lvlm: Lvlm;
beforeAll(async () => {
  lvlm = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE });
});
afterAll(() => lvlm.dispose());

describe('reuseEncoding', () => {
  it('changes no answer, whatever the order of images, reducers and calls', async () => {
    const chains = [[], [fopruRank()], [pooling()], [random()], [pooling(), random()]];
    const images = [[picture(1)], [picture(1)], [picture(2)], [picture(2), picture(1)], [picture(1)]];
    for (const reducers of chains) {
      for (const pictures of images) {
        const call = { images: pictures, prompt: 'What is it?', reducers, maxNewTokens: 6 };
        const reused = await lvlm.generate({ ...call, reuseEncoding: true });
        const again = await lvlm.generate({ ...call, reuseEncoding: true });
        const anew = await lvlm.generate(call);
        for (const { tokenIds, images: reports } of [reused, again]) {
          expect(tokenIds).toEqual(anew.tokenIds);
          expect(reports).toEqual(anew.images);
        }
      }
    }
  });
});

describe('encodingOnce', () => {
  it('encodes the crops of an image once for callers who name it, and always for those who do not', async () => {
    const encoded: PixelValues[] = [];
    const encoder = {
      encode: async (pixels: PixelValues) => {
        encoded.push(pixels);
        return { width: pixels.width } as unknown as EncodedCrop;
      },
    };
    const encode = encodingOnce();
    const inside = { rules: [], merging: null };
    const [a, a1, b] = [1, 2, 3].map((width) => ({ data: new Float32Array(0), width, height: 1 }));
    for (const [pixels, key] of [
      [a, { encoding: 'a', crop: 0 }],
      [a1, { encoding: 'a', crop: 1 }],
      [a, { encoding: 'a', crop: 0 }],
      [a1, { encoding: 'a', crop: 1 }],
      [b, { encoding: 'b', crop: 0 }],
      [a, { encoding: 'a', crop: 0 }],
      [a, null],
      [a, { encoding: 'a', crop: 0 }],
    ] as const)
      expect(await encode(encoder, pixels, inside, key)).toEqual({ width: pixels.width });
    expect(encoded).toEqual([a, a1, b, a, a, a]);
    expect(
      await encode({ encode: async () => ({}) as EncodedCrop }, a, inside, { encoding: 'a', crop: 0 }),
    ).toEqual({});
  });
});

describe('readImage', () => {
  it('gives the pixels that the path would', async () => {
    const { data, width, height, channels } = picture(3, 50, 40);
    const file = `${await temporaryFolder()}/image.png`;
    await sharp(data, { raw: { width, height, channels } }).png().toFile(file);
    const image = await readImage(file);
    expect(image).toMatchObject({ width, height, channels: 3 });
    expect(Buffer.from(image.data)).toEqual(Buffer.from(data));
  });

  it('refuses what is no image', async () => {
    await expect(readImage('nowhere.png')).rejects.toThrow(ImageError);
    await expect(readImage(`${FIXTURE}/config.json`)).rejects.toThrow(ImageError);
  });
});
