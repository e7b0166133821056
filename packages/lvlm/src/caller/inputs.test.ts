/** Images and prompts that cannot be read: a typed error each, and the model goes on. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fopruRank } from '@foveate/fopru-rank';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CACHE, copyOfFixture, editJson, FIXTURE, picture, temporaryFolder } from '../../test/bundles.js';
import { ImageError, Lvlm, PromptError, type GenerateOptions, type ImageInput } from '../index.js';

let lvlm: Lvlm;
beforeAll(async () => {
  lvlm = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE, maxImagePixels: 1_000_000 });
});
afterAll(async () => {
  const { tokenIds } = await lvlm.generate({ images: [picture(1)], prompt: 'Still there?', maxNewTokens: 3 });
  expect(tokenIds).toHaveLength(3);
  await lvlm.dispose();
});

const png = async (width: number, height: number): Promise<Buffer> =>
  sharp({ create: { width, height, channels: 3, background: 'red' } })
    .png()
    .toBuffer();

describe('images', () => {
  const refusal = async (image: ImageInput): Promise<string> => {
    const error: unknown = await lvlm
      .generate({ images: [picture(1), image], prompt: 'x' })
      .catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(ImageError);
    return (error as ImageError).message;
  };

  test('URLs', async () => {
    for (const url of [
      'https://example.org/a.png',
      'HTTP://x/y.jpg',
      'file:///etc/passwd',
      'data:image/png;base64,AAAA',
    ]) {
      expect(await refusal(url)).toMatch(/^images\[1\] is a URL/);
    }
  });

  test('no file, a folder, no image', async () => {
    const folder = await temporaryFolder();
    const text = path.join(folder, 'text.png');
    await writeFile(text, 'not an image');
    expect(await refusal(path.join(folder, 'none.png'))).toMatch(/images\[1\]: there is no file/);
    expect(await refusal(folder)).toMatch(/is no file/);
    expect(await refusal(text)).toMatch(/text.png\) cannot be decoded/);
    expect(await refusal(new Uint8Array())).toMatch(/images\[1\] cannot be decoded/);
  });

  test('a strip that would be resized to very many pixels before it is cropped', async () => {
    const bundle = await copyOfFixture();
    const cropped = {
      size: { shortest_edge: 64 },
      do_center_crop: true,
      crop_size: { height: 64, width: 64 },
    };
    await editJson(bundle, 'preprocessor_config.json', cropped);
    await using model = await Lvlm.load(bundle, { cacheDirectory: CACHE });
    const strip = (width: number, height: number): GenerateOptions => {
      const data = new Uint8Array(width * height).fill(99);
      return { images: [{ data, width, height, channels: 1 }], prompt: 'x', maxNewTokens: 1 };
    };
    await expect(model.generate(strip(1, 10_000))).rejects.toThrow(
      /^An image of 1 x 10000 pixels would be resized to 64 x 640000: crop it to a less extreme shape\.$/,
    );
    await expect(model.generate(strip(10_000, 1))).rejects.toThrow(ImageError);
    expect((await model.generate(strip(10, 300))).tokenIds).toHaveLength(1);
  });

  test('cut short', async () => {
    const whole = await sharp(await png(300, 200))
      .jpeg()
      .toBuffer();
    expect(await refusal(whole.subarray(0, whole.length / 2))).toMatch(/cannot be decoded/);
  });

  test('formats that are programs', async () => {
    const svg = Buffer.from(
      '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>',
    );
    expect(await refusal(svg)).toMatch(/format svg/);
  });

  test('a format that the decoder does not know, as BMP, naming those that it does', async () => {
    const bmp = Buffer.alloc(70);
    bmp.write('BM');
    bmp.writeUInt32LE(70, 2); // bytes of the file
    bmp.writeUInt32LE(54, 10); // where the pixels are
    bmp.writeUInt32LE(40, 14); // bytes of the header
    bmp.writeInt32LE(2, 18);
    bmp.writeInt32LE(2, 22);
    bmp.writeUInt16LE(1, 26);
    bmp.writeUInt16LE(24, 28); // bits a pixel
    expect(await refusal(bmp)).toMatch(/known are PNG, JPEG, WebP, GIF, AVIF and TIFF/);
  });

  test('larger than the limit', async () => {
    expect(await refusal(await png(1001, 1000))).toMatch(/at most 1000000 pixels/);
    expect(
      await refusal({ data: new Uint8Array(1001 * 1000), width: 1001, height: 1000, channels: 1 }),
    ).toMatch(/1001 x 1000 pixels; at most 1000000/);
    expect(
      (await lvlm.generate({ images: [await png(1000, 1000)], prompt: 'x', maxNewTokens: 1 })).images[0]
        .inputTokens,
    ).toBe(64);
  });

  test('raw pixels that do not fit together', async () => {
    const { data } = picture(1);
    expect(await refusal({ data, width: 64, height: 63, channels: 3 })).toMatch(
      /12288 bytes; 64 x 63 pixels of 3 channels are 12096/,
    );
    expect(await refusal({ data, width: 64.5, height: 64, channels: 3 })).toMatch(
      /must be a path, the bytes/,
    );
    expect(await refusal({ data, width: -64, height: -64, channels: 3 })).toMatch(
      /must be a path, the bytes/,
    );
    expect(await refusal({ data, width: 64, height: 96, channels: 2 as 3 })).toMatch(
      /must be a path, the bytes/,
    );
    expect(await refusal({ data: [...data] as never, width: 64, height: 64, channels: 3 })).toMatch(
      /must be a path, the bytes/,
    );
    expect(await refusal(null as never)).toMatch(/must be a path, the bytes/);
  });
});

describe('prompts', () => {
  const refusal = async (options: GenerateOptions): Promise<string> => {
    const error: unknown = await lvlm.generate(options).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(PromptError);
    return (error as PromptError).message;
  };
  const images = [picture(1)];

  test('empty', async () => {
    expect(await refusal({ prompt: ' \n ' })).toBe('prompt is empty.');
    expect(await refusal({ rawPrompt: '' })).toBe('rawPrompt is empty.');
  });

  test('another number of image tokens than images', async () => {
    expect(await refusal({ images, rawPrompt: 'no place for it' })).toMatch(/0 times <image> for 1 images/);
    expect(await refusal({ images, rawPrompt: '<image><image>' })).toMatch(/2 times <image> for 1 images/);
    expect(await refusal({ rawPrompt: '<image>' })).toMatch(/1 times <image> for 0 images/);
    expect(await refusal({ images, prompt: 'an <image> more' })).toMatch(/prompt contains <image>/);
  });

  test('longer than the context', async () => {
    expect(await refusal({ rawPrompt: 'x'.repeat(2000) })).toMatch(
      /The prompt has 2001 tokens, visual ones included; the model's context holds 1024: 978 too many/,
    );
    expect(await refusal({ images, rawPrompt: '<image>' + 'x'.repeat(1000) })).toMatch(
      /The prompt has 1065 tokens.* holds 1024: 42 too many\. Shorten it or keep fewer visual tokens\./,
    );
    expect(await refusal({ prompt: 'x'.repeat(100_000) })).toMatch(
      /100000 characters, more than the model's context of 1024 tokens can hold/,
    );
    expect(await refusal({ prompt: 'x'.repeat(3_000_000) })).toMatch(/3000000 characters/);
  });

  test('longer than the context by one token, and as long as it can be', async () => {
    // The begin token, 64 visual ones and the text; one more has to be generated.
    const rawPrompt = (letters: number): string => `<image>${'x'.repeat(letters)}`;
    expect(await refusal({ images, rawPrompt: rawPrompt(959) })).toMatch(/has 1024 tokens.*: 1 too many/);
    const fits = await lvlm.generate({ images, rawPrompt: rawPrompt(958) });
    expect(fits.tokenIds.length).toBeLessThan(2);
    const reducers = [fopruRank({ keepCount: 63 })];
    expect(await refusal({ images, rawPrompt: rawPrompt(960), reducers })).toMatch(/has 1024 .*: 1 too many/);
    await lvlm.generate({ images, rawPrompt: rawPrompt(959), reducers });
  });

  test('special tokens, which a prompt spells and a raw prompt means', async () => {
    const ends = '</s>'.repeat(300); // a token a byte: 1200, with the begin token, "USER: " and " ASSISTANT:" 1218
    expect(await refusal({ prompt: ends })).toMatch(/The prompt has 1218 tokens/);
    expect((await lvlm.generate({ rawPrompt: ends, maxNewTokens: 1 })).tokenIds.length).toBeLessThan(2);
  });

  test('both or none, and other options out of range', async () => {
    await expect(lvlm.generate({})).rejects.toThrow(/prompt must be a string, and exactly one/);
    await expect(lvlm.generate({ prompt: 'a', rawPrompt: 'b' })).rejects.toThrow(
      /exactly one of prompt, rawPrompt and messages/,
    );
    await expect(lvlm.generate({ prompt: 'a', maxNewTokens: 0 })).rejects.toThrow(
      /maxNewTokens must be an integer/,
    );
    await expect(lvlm.generate({ prompt: 'a', temperature: -1 })).rejects.toThrow(
      /temperature must be a number, 0 or above/,
    );
    await expect(lvlm.generate({ prompt: 'a', temperature: NaN })).rejects.toThrow(/temperature/);
    await expect(lvlm.generate({ prompt: 'a', seed: 1.5 })).rejects.toThrow(/seed must be an integer/);
    await expect(lvlm.generate({ prompt: 'a', images: 'a.png' as never })).rejects.toThrow(
      /images must be an array/,
    );
    for (const value of [null, 'fopru-rank', () => undefined, {}]) {
      const reducers = [value as never];
      await expect(lvlm.generate({ prompt: 'a', reducers })).rejects.toThrow(
        'reducers[0] must be a reducer of specificationVersion 2',
      );
    }
    await expect(lvlm.generate({ prompt: 'a', reducers: {} as never })).rejects.toThrow(
      /reducers must be an array/,
    );
    await expect(lvlm.generate({ prompt: 'a', onToken: 1 as never })).rejects.toThrow(
      /onToken must be a function/,
    );
  });
});
