import { describe, expect, it } from 'vitest';
import { Lvlm } from '../index.js';
import { inputRegion, readPreprocessing } from './preprocessing.js';
import { CACHE, copyOfFixture, editJson, picture } from '../../test/bundles.js';

const region = (
  config: Record<string, unknown>,
  width: number,
  height: number,
): ReturnType<typeof inputRegion> =>
  inputRegion(
    { width, height },
    readPreprocessing('bundle', { name: 'a.json', json: { do_normalize: false, ...config } }),
  );

describe('inputRegion', () => {
  it('is the whole image where it is resized to the input', () => {
    const config = { size: { width: 336, height: 336 }, do_center_crop: false };
    expect(region(config, 640, 480)).toEqual({ left: 0, top: 0, width: 1, height: 1 });
  });

  it("is the middle of CLIP's crop", () => {
    // 672 x 336 keeps its size; the middle 336 columns of 672.
    const config = { size: { shortest_edge: 336 }, do_center_crop: true, crop_size: 336 };
    expect(region(config, 672, 336)).toEqual({ left: 0.25, top: 0, width: 0.5, height: 1 });
    // 100 x 400 becomes 336 x 1344; the middle 336 rows.
    expect(region(config, 100, 400)).toEqual({ left: 0, top: 504 / 1344, width: 1, height: 0.25 });
  });

  it('reaches beyond an image that is smaller than the crop', () => {
    const config = { do_resize: false, do_center_crop: true, crop_size: 64 };
    expect(region(config, 32, 64)).toEqual({ left: -0.5, top: 0, width: 2, height: 1 });
  });
});

describe('region of a report', () => {
  it('is what the grid covers of a cropped image', async () => {
    const bundle = await copyOfFixture();
    // 64 x 64 of 8 x 8 patches; cropped from the middle of 128 x 64.
    await editJson(bundle, 'preprocessor_config.json', {
      size: { shortest_edge: 64 },
      do_center_crop: true,
      crop_size: { width: 64, height: 64 },
    });
    await using model = await Lvlm.load(bundle, { cacheDirectory: CACHE });
    const { images } = await model.generate({
      images: [picture(1, 128, 64)],
      prompt: 'what?',
      maxNewTokens: 1,
    });
    expect(images[0].crops[0]).toMatchObject({
      grid: { rows: 8, columns: 8 },
      region: { left: 0.25, top: 0, width: 0.5, height: 1 },
    });
  });
});
