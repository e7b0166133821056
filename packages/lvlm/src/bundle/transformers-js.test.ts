/** The unreduced path gives what transformers.js gives, from the pixels on. */
import path from 'node:path';
import sharp, { type Sharp } from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { copyOfFixture, editJson, FIXTURE, picture, temporaryFolder } from '../../test/bundles.js';
import { loadReference, type Reference } from '../../test/transformers-js.js';
import { readBundle } from './bundle.js';
import { decodeImage } from '../platform/image-files.js';
import { Lvlm, type ImageInput } from '../index.js';
import { resize } from '../platform/node.js';
import { preprocess } from './preprocessing.js';

let lvlm: Lvlm;
let reference: Reference;
beforeAll(async () => {
  lvlm = await Lvlm.load(FIXTURE);
  reference = await loadReference(FIXTURE);
});
afterAll(async () => {
  await lvlm.dispose();
  await reference.dispose();
});

describe('answers', () => {
  test.each([
    [0, 'What is this?'],
    [1, 'What is this?'],
    [2, 'Is there a red star? Answer yes or no.'],
    [3, 'é and 漢字 take several tokens a character'],
    [4, 'x'],
  ])('picture %i, %s', async (seed, prompt) => {
    const image = picture(seed);
    const expected = await reference.answer([image], reference.render(prompt, 1), 12);
    const { tokenIds, text } = await lvlm.generate({ images: [image], prompt, maxNewTokens: 12 });
    expect(tokenIds).toEqual(expected);
    expect(text).toBe(reference.decode(expected).trim());
  });

  test('depend on the picture and on the prompt', async () => {
    const answers = await Promise.all(
      [0, 1, 2, 3].flatMap((seed) =>
        ['What is this?', 'How many?'].map((prompt) =>
          lvlm.generate({ images: [picture(seed)], prompt, maxNewTokens: 12 }),
        ),
      ),
    );
    expect(new Set(answers.map(({ tokenIds }) => tokenIds.join())).size).toBeGreaterThan(5);
  });

  test('several images, each where its token stands', async () => {
    const images = [picture(5), picture(6, 100, 40), picture(7)];
    const rawPrompt = 'First <image> then <image><image>: which?';
    const expected = await reference.answer(images, rawPrompt, 12);
    expect((await lvlm.generate({ images, rawPrompt, maxNewTokens: 12 })).tokenIds).toEqual(expected);
    const prompt = 'Which?';
    const inTemplate = await reference.answer(images, reference.render(prompt, 3), 12);
    expect((await lvlm.generate({ images, prompt, maxNewTokens: 12 })).tokenIds).toEqual(inTemplate);
  });

  test('no image', async () => {
    const expected = await reference.answer([], 'Hello', 12);
    expect((await lvlm.generate({ rawPrompt: 'Hello', maxNewTokens: 12 })).tokenIds).toEqual(expected);
  });

  test('a prompt that writes its begin token gets no second one', async () => {
    const answer = (rawPrompt: string) => lvlm.generate({ images: [picture(0)], rawPrompt, maxNewTokens: 6 });
    expect((await answer('<s>a <image>')).tokenIds).toEqual((await answer('a <image>')).tokenIds);
  });
});

describe('pixels', () => {
  const pixels = async (bundle: string, image: ImageInput): Promise<Float32Array> => {
    const { family } = await readBundle(bundle, 'fp32');
    return (await preprocess(await decodeImage(image, 'image', 2 ** 26), family.preprocessing, resize)).data;
  };

  test.each([
    ['square', 64, 64],
    ['smaller', 13, 29],
    ['wide', 301, 40],
    ['tall', 33, 257],
  ])('%s', async (_, width, height) => {
    const image = picture(3, width, height);
    expect(await pixels(FIXTURE, image)).toEqual(await reference.pixels(image));
  });

  const configs: Record<string, Record<string, unknown>> = {
    nearest: { resample: 0 },
    lanczos: { resample: 1 },
    bilinear: { resample: 2 },
    'shortest edge and centre crop, as LLaVA-1.5': {
      size: { shortest_edge: 64 },
      do_center_crop: true,
      crop_size: { width: 64, height: 64 },
    },
    'an odd crop': { size: { shortest_edge: 70 }, do_center_crop: true, crop_size: 64 },
    'a crop larger than the image': { do_resize: false, do_center_crop: true, crop_size: 64 },
    'longest edge': { size: { longest_edge: 64, shortest_edge: 60 }, do_center_crop: true, crop_size: 64 },
    'no rescaling, other means': { do_rescale: false, image_mean: [1, 2, 3], image_std: [4, 5, 6] },
    'no normalising': { do_normalize: false },
  };
  test.each(Object.keys(configs))('%s', async (name) => {
    const bundle = await copyOfFixture();
    await editJson(bundle, 'preprocessor_config.json', configs[name]);
    const other = await loadReference(bundle);
    for (const [width, height] of [
      [64, 64],
      [90, 51],
      [47, 33],
      [47, 133],
    ]) {
      // transformers.js cannot crop an image that is larger one way and smaller the other.
      if (configs[name].do_resize === false && width > 64 !== height > 64) continue;
      const image = picture(4, width, height);
      expect(await pixels(bundle, image)).toEqual(await other.pixels(image));
    }
    await other.dispose();
  });

  test('files of every kind', async () => {
    const folder = await temporaryFolder();
    const { data, width, height, channels } = picture(2, 80, 50);
    const image = () => sharp(data, { raw: { width, height, channels } });
    const files: Record<string, Sharp> = {
      'rgb.png': image().png(),
      'alpha.png': image().ensureAlpha(0.5).png(),
      'palette.png': image().png({ palette: true, colours: 16 }),
      'grey.png': image().greyscale().png(),
      'deep.png': image().toColourspace('rgb16').png(),
      'colour.jpg': image().jpeg(),
      'grey.jpg': image().greyscale().jpeg(),
      'cmyk.jpg': image().toColourspace('cmyk').jpeg(),
      'turned.jpg': image().withMetadata({ orientation: 6 }).jpeg(),
      'colour.webp': image().webp(),
      'colour.gif': image().gif(),
      'colour.tiff': image().tiff(),
      'colour.avif': image().avif(),
    };
    for (const [name, file] of Object.entries(files)) {
      const target = path.join(folder, name);
      await file.toFile(target);
      expect(await pixels(FIXTURE, target), name).toEqual(await reference.pixels(target));
    }
  });
});
