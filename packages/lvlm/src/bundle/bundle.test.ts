/** Bundles that are broken, foreign or hostile: a typed error that names the file, and nothing else. */
import { existsSync } from 'node:fs';
import { cp, mkdir, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { serializeModel } from '@foveate/onnx-graph';
import { readModel } from '@foveate/onnx-graph/files';
import { describe, expect, test } from 'vitest';
import { copyOfFixture, editJson, FIXTURE, picture, temporaryFolder } from '../../test/bundles.js';
import {
  atFeatures,
  attentionGiven,
  defineReducer,
  type Requirements,
  type TokenReducer,
} from '@foveate/core';
import { openCheckedEncoder } from '../engine/identity-check.js';
import { createSessions } from '../engine/sessions.js';
import { nodePlatform } from '../platform/node.js';
import { openGate } from '../platform/run-gate.js';
import { BundleError, Lvlm, type LoadOptions } from '../index.js';

/** Loads a bundle that must be refused, and returns the message. */
async function refusal(bundle: string, options?: LoadOptions): Promise<string> {
  const error: unknown = await Lvlm.load(bundle, options).then(
    () => expect.unreachable('the bundle was loaded'),
    (cause: unknown) => cause,
  );
  expect(error).toBeInstanceOf(BundleError);
  return (error as BundleError).message;
}

test('no folder', async () => {
  expect(await refusal('/no/such/folder')).toMatch(/is no folder/);
  expect(await refusal(path.join(FIXTURE, 'config.json'))).toMatch(/is no folder/);
  expect(await refusal(await temporaryFolder())).toMatch(/config.json is missing/);
});

test.each([
  'config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'preprocessor_config.json',
  'onnx/vision_encoder.onnx',
  'onnx/embed_tokens.onnx',
  'onnx/decoder_model_merged.onnx',
])('without %s', async (name) => {
  const bundle = await copyOfFixture();
  await rm(path.join(bundle, name));
  expect(await refusal(bundle)).toContain(`${path.normalize(name)} is missing`);
});

test.each([
  'config.json',
  'tokenizer.json',
  'preprocessor_config.json',
  'onnx/vision_encoder.onnx',
  'onnx/embed_tokens.onnx',
  'onnx/decoder_model_merged.onnx',
])('%s cut short, empty, or replaced by a folder', async (name) => {
  const bundle = await copyOfFixture();
  const file = path.join(bundle, name);
  const { length } = await readFile(file);
  await truncate(file, Math.floor(length * 0.6));
  expect(await refusal(bundle)).toContain(path.basename(name));
  await truncate(file, 0);
  expect(await refusal(bundle)).toContain(path.basename(name));
  await rm(file);
  await mkdir(file);
  expect(await refusal(bundle)).toContain(path.basename(name));
});

describe('foreign', () => {
  test.each<[string, string, Record<string, unknown>, RegExp]>([
    [
      'another kind of model',
      'config.json',
      { model_type: 'bert' },
      /model_type "bert"; this runner knows llava/,
    ],
    [
      'no image token',
      'config.json',
      { image_token_index: undefined, image_token_id: undefined },
      /image_token_index must be a whole number; it is missing/,
    ],
    [
      'an image token that is another word',
      'config.json',
      { image_token_index: 40 },
      /the files are of different models/,
    ],
    [
      'an end token that is no number',
      'generation_config.json',
      { eos_token_id: 'x' },
      /eos_token_id must be a whole number; it is "x"/,
    ],
    [
      'another image processor',
      'preprocessor_config.json',
      { image_processor_type: 'Idefics3ImageProcessor' },
      /names the processor "Idefics3ImageProcessor"/,
    ],
    ['an unknown step', 'preprocessor_config.json', { do_pad: true }, /asks for do_pad/],
    [
      'an absurd size',
      'preprocessor_config.json',
      { size: { height: 1e9, width: 1e9 } },
      /size.width 1000000000; it must be a whole number up to 16384/,
    ],
    [
      'a size of no number',
      'preprocessor_config.json',
      { size: { shortest_edge: 'x' } },
      /size.shortest_edge "x"/,
    ],
    ['an unknown interpolation', 'preprocessor_config.json', { resample: 9 }, /resample 9/],
    [
      'a mean for two channels',
      'preprocessor_config.json',
      { image_mean: [1, 2] },
      /image_mean \[1,2\]; it must be one number or three/,
    ],
    ['a deviation of 0', 'preprocessor_config.json', { image_std: [1, 0, 1] }, /image_std of 0/],
    [
      'a template that does not parse',
      'tokenizer_config.json',
      { chat_template: '{% for %}' },
      /the chat template cannot be used/,
    ],
    ['no vocabulary', 'tokenizer.json', { model: {} }, /tokenizer.json/],
    ['a list in place of an object', 'processor_config.json', [] as never, /./],
  ])('%s', async (_, name, changes, message) => {
    const bundle = await copyOfFixture();
    if (Array.isArray(changes)) await writeFile(path.join(bundle, name), '[]');
    else await editJson(bundle, name, changes);
    expect(await refusal(bundle)).toMatch(message);
  });

  test('a dtype that the bundle does not have', async () => {
    expect(await refusal(FIXTURE, { dtype: 'q4' })).toMatch(
      /decoder_model_merged_q4\.onnx for dtype q4|vision_encoder_q4\.onnx is missing/,
    );
  });

  test("graphs in each other's place", async () => {
    const bundle = await copyOfFixture();
    await cp(
      path.join(bundle, 'onnx/vision_encoder.onnx'),
      path.join(bundle, 'onnx/decoder_model_merged.onnx'),
    );
    expect(await refusal(bundle)).toMatch(/decoder_model_merged needs the input pixel_values/);
    const other = await copyOfFixture();
    await cp(path.join(other, 'onnx/embed_tokens.onnx'), path.join(other, 'onnx/vision_encoder.onnx'));
    expect(await refusal(other)).toMatch(
      /takes input_ids; this runner knows encoders that take pixel_values alone/,
    );
  });

  test('a picture size that the encoder does not read is told when a picture comes', async () => {
    const bundle = await copyOfFixture();
    await editJson(bundle, 'preprocessor_config.json', { size: { height: 32, width: 64 } });
    await using lvlm = await Lvlm.load(bundle);
    await expect(lvlm.generate({ images: [picture(1)], prompt: 'x' })).rejects.toThrow(
      /reads pictures of 64 x 64, but preprocessor_config.json makes 32 x 64/,
    );
  });
});

describe('weights outside the bundle', () => {
  /** The fixture with the embedding's table in another file, named `location` in the graph. */
  async function withExternalTable(location: string): Promise<string> {
    const bundle = await copyOfFixture();
    const file = path.join(bundle, 'onnx/embed_tokens.onnx');
    const model = readModel(file); // its large weights are external data by now, in the file itself
    const entries = model.graph.initializer.flatMap(({ externalData }) => externalData);
    for (const entry of entries) if (entry.key === 'location') entry.value = location;
    await cp(file, path.resolve(bundle, 'onnx', location));
    await writeFile(file, serializeModel(model).bytes);
    return bundle;
  }

  test('beside the graph are read', async () => {
    const bundle = await withExternalTable('table.data');
    const ask = { images: [picture(1)], prompt: 'What?', maxNewTokens: 5 };
    await using lvlm = await Lvlm.load(bundle);
    await using original = await Lvlm.load(FIXTURE);
    expect((await lvlm.generate(ask)).tokenIds).toEqual((await original.generate(ask)).tokenIds);
  });

  test('above it, or behind a link, are refused', async () => {
    expect(await refusal(await withExternalTable('../../outside.data'))).toMatch(/embed_tokens/);
    const bundle = await withExternalTable('table.data');
    const secret = path.join(await temporaryFolder(), 'secret');
    await cp(path.join(bundle, 'onnx/table.data'), secret);
    await rm(path.join(bundle, 'onnx/table.data'));
    await symlink(secret, path.join(bundle, 'onnx/table.data'));
    expect(await refusal(bundle)).toMatch(/embed_tokens/);
  });

  test('that are missing or too short', async () => {
    const bundle = await withExternalTable('table.data');
    await truncate(path.join(bundle, 'onnx/table.data'), 100);
    expect(await refusal(bundle)).toMatch(/embed_tokens/);
    await rm(path.join(bundle, 'onnx/table.data'));
    expect(await refusal(bundle)).toMatch(/embed_tokens/);
  });
});

test('options out of range', async () => {
  await expect(Lvlm.load(FIXTURE, { threads: 0 })).rejects.toThrow(/threads must be an integer/);
  await expect(Lvlm.load(FIXTURE, { threads: 257 })).rejects.toThrow(
    /threads must be an integer from 1 to 256/,
  );
  await expect(Lvlm.load(FIXTURE, { dtype: 'fp8' as 'fp32' })).rejects.toThrow(/dtype must be one of/);
  await expect(Lvlm.load(FIXTURE, { maxImagePixels: Infinity })).rejects.toThrow(
    /maxImagePixels must be an integer/,
  );
});

test('rules for generating that are not applied are told', async () => {
  const bundle = await copyOfFixture();
  await editJson(bundle, 'generation_config.json', { repetition_penalty: 1.5, no_repeat_ngram_size: 0 });
  await using lvlm = await Lvlm.load(bundle);
  expect((await lvlm.generate({ rawPrompt: 'x', maxNewTokens: 1 })).warnings).toEqual([
    expect.stringContaining('repetition_penalty'),
  ]);
});

test('a template in a file of its own', async () => {
  const bundle = await copyOfFixture();
  const { chat_template: template } = JSON.parse(
    await readFile(path.join(bundle, 'tokenizer_config.json'), 'utf8'),
  ) as { chat_template: string };
  await editJson(bundle, 'tokenizer_config.json', { chat_template: undefined });
  const ask = { images: [picture(1)], prompt: 'What?', maxNewTokens: 5 };
  {
    await using lvlm = await Lvlm.load(bundle);
    await expect(lvlm.generate(ask)).rejects.toThrow(/no chat template: use rawPrompt/);
  }
  await using original = await Lvlm.load(FIXTURE);
  const { tokenIds } = await original.generate(ask);
  for (const [name, content] of [
    ['chat_template.json', JSON.stringify({ chat_template: template })],
    ['chat_template.jinja', template],
  ]) {
    await writeFile(path.join(bundle, name), content);
    await using lvlm = await Lvlm.load(bundle);
    expect((await lvlm.generate(ask)).tokenIds).toEqual(tokenIds);
  }
});

describe('the identity check', () => {
  const reading = (requires: Requirements): TokenReducer =>
    defineReducer({
      name: 'mine',
      at: [atFeatures],
      requires,
      plan: () => Promise.reject(new Error('unused')),
    });
  const reducer = reading({ given: attentionGiven() });
  const verdicts = async (folder: string): Promise<string[]> => {
    return existsSync(path.join(folder, 'identity')) ? readdir(path.join(folder, 'identity')) : [];
  };

  test('is remembered by the content of the graph and the signals', async () => {
    const cacheDirectory = await temporaryFolder();
    const load = async (bundle: string): Promise<void> =>
      (await Lvlm.load(bundle, { cacheDirectory, reducers: [reducer] })).dispose();
    await load(FIXTURE);
    const [verdict, ...others] = await verdicts(cacheDirectory);
    expect(others).toEqual([]);
    expect(JSON.parse(await readFile(path.join(cacheDirectory, 'identity', verdict), 'utf8'))).toMatchObject({
      equal: true,
    });
    await load(await copyOfFixture()); // the same content elsewhere
    expect(await verdicts(cacheDirectory)).toEqual([verdict]);
    await (await Lvlm.load(FIXTURE, { cacheDirectory, reducers: [reading({})] })).dispose();
    expect(await verdicts(cacheDirectory)).toHaveLength(2);
  });

  test('needs no cache that can be written', async () => {
    const file = path.join(await temporaryFolder(), 'a-file');
    await writeFile(file, '');
    await (await Lvlm.load(FIXTURE, { cacheDirectory: file, reducers: [reducer] })).dispose();
  });

  test('refuses an encoder that computes something else', async () => {
    const cacheDirectory = await temporaryFolder();
    const file = path.join(FIXTURE, 'onnx/vision_encoder.onnx');
    const platform = await nodePlatform(cacheDirectory, openGate());
    const settings = { file, model: readModel(file), weightBytes: 0, visionLayers: 3 };
    const request = { signals: [] };
    // No difference is below a negative tolerance.
    const check = openCheckedEncoder(platform, createSessions(platform, 1), settings, request, {
      probe: { width: 64, height: 64 },
      tolerance: -1,
    });
    await expect(check).rejects.toThrow(/features differ from the original's by/);
    expect(await verdicts(cacheDirectory)).toEqual([]);
  });
});
