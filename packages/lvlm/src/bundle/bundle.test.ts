/** Bundles that are broken, foreign or hostile: a typed error that names the file, and nothing else. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, readdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import { serializeModel } from '@foveate/onnx-graph';
import { readModel } from '@foveate/onnx-graph/files';
import { ModelProtoSchema, TensorProto_DataType } from 'onnx-buf';
import { describe, expect, test } from 'vitest';
import { copyOfFixture, editJson, FIXTURE, picture, temporaryFolder } from '../../test/bundles.js';
import { info } from '../../test/llama-graph.js';
import {
  atFeatures,
  attentionGiven,
  defineReducer,
  type Requirements,
  type TokenReducer,
} from '@foveate/core';
import { pictureFeeds } from '../families/llava.js';
import { readBundle } from './bundle.js';
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

test
  .runIf(process.platform === 'linux')
  .each([
    'config.json',
    'generation_config.json',
    'preprocessor_config.json',
    'processor_config.json',
    'tokenizer.json',
    'tokenizer_config.json',
    'chat_template.jinja',
    'chat_template.json',
  ])('%s that is a pipe, or a device', async (name) => {
  const bundle = await copyOfFixture();
  const file = path.join(bundle, name);
  await rm(file, { force: true });
  execFileSync('mkfifo', [file]);
  expect(await refusal(bundle)).toMatch(/is no regular file/);
  await rm(file);
  await symlink('/dev/zero', file);
  expect(await refusal(bundle)).toMatch(/is no regular file/);
});

test.each([
  'config.json',
  'generation_config.json',
  'preprocessor_config.json',
  'processor_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'chat_template.json',
])('%s nested 200,000 deep', async (name) => {
  const bundle = await copyOfFixture();
  for (const [open, close] of ['[]', '{}']) {
    const value = `${open}"a"${open === '{' ? ':' : ','}`.repeat(200_000) + '1' + close.repeat(200_000);
    await writeFile(path.join(bundle, name), `{"model_type":${value}}`);
    expect(await refusal(bundle)).toContain(`${name} is nested more than 100 deep`);
  }
});

const LONG = 'x'.repeat(2 ** 22);
test.each<[string, Record<string, unknown>]>([
  ['config.json', { model_type: LONG }],
  ['config.json', { model_type: [LONG] }],
  ['config.json', { image_token_index: LONG }],
  ['generation_config.json', { eos_token_id: [LONG] }],
  ['preprocessor_config.json', { image_processor_type: LONG }],
  ['preprocessor_config.json', { resample: LONG }],
  ['preprocessor_config.json', { size: { width: LONG } }],
  ['preprocessor_config.json', { image_mean: LONG }],
  ['preprocessor_config.json', { rescale_factor: LONG }],
  ['processor_config.json', { image_token: LONG }],
  ['tokenizer.json', { decoder: { type: LONG } }],
  ['tokenizer_config.json', { chat_template: `{% ${'x'.repeat(60_000)} %}` }],
  ['tokenizer_config.json', { chat_template: LONG }],
])('%s with millions of characters where none belong is cited in short', async (name, changes) => {
  const bundle = await copyOfFixture();
  await editJson(bundle, name, changes);
  expect((await refusal(bundle)).length).toBeLessThan(700);
});

test('a template that never ends', async () => {
  const bundle = await copyOfFixture();
  const chat_template = '{% for i in range(1000000000) %}<image>{% endfor %}';
  await editJson(bundle, 'tokenizer_config.json', { chat_template });
  await using lvlm = await Lvlm.load(bundle);
  await expect(lvlm.generate({ prompt: 'x' })).rejects.toThrow(
    /chat template fails on this prompt: its range\(\) has more than 10000 numbers. Use rawPrompt/,
  );
});

test('a template that complains at length is cited in short', async () => {
  const bundle = await copyOfFixture();
  await editJson(bundle, 'tokenizer_config.json', {
    chat_template: `{{ raise_exception('${'x'.repeat(60_000)}') }}`,
  });
  const { text } = await readBundle(bundle, 'fp32');
  expect(() => text.render([{ role: 'user', text: 'x', images: 0 }])).toThrow(/^.{300,500}$/);
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
    ['a property of arrays', 'preprocessor_config.json', { resample: 'length' }, /resample "length"/],
    ['a list of an index', 'preprocessor_config.json', { resample: [3] }, /resample \[3\]/],
    ['a property of objects', 'config.json', { model_type: 'constructor' }, /model_type "constructor"/],
    ['a list of a kind', 'config.json', { model_type: ['llava'] }, /model_type \["llava"\]/],
    [
      'a factor that is no number',
      'preprocessor_config.json',
      { rescale_factor: 'x' },
      /rescale_factor "x"; it must be a number/,
    ],
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
      /the chat template of tokenizer_config.json cannot be used/,
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
    expect(await refusal(other)).toMatch(/takes input_ids; encoders of this family take pixel_values\./);
  });

  test('a picture size that the encoder does not read is told', async () => {
    const bundle = await copyOfFixture();
    await editJson(bundle, 'preprocessor_config.json', { size: { height: 32, width: 64 } });
    await expect(Lvlm.load(bundle)).rejects.toThrow(
      /reads pixel_values of .* x 3 x 64 x 64, but preprocessor_config.json makes 1 x 3 x 32 x 64/,
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
  await editJson(bundle, 'generation_config.json', { no_repeat_ngram_size: 3, repetition_penalty: 1 });
  await using lvlm = await Lvlm.load(bundle);
  expect((await lvlm.generate({ rawPrompt: 'x', maxNewTokens: 1 })).warnings).toEqual([
    expect.stringContaining('no_repeat_ngram_size'),
  ]);
});

test.each([
  ['nowhere', {}, undefined, null],
  ['null in text_config', { max_position_embeddings: null }, 77, 77],
  ['null everywhere', { max_position_embeddings: null }, null, null],
  ['in text_config first', { max_position_embeddings: 88 }, 77, 88],
])('the context length, %s', async (_, text, flat, expected) => {
  const bundle = await copyOfFixture();
  await editJson(bundle, 'config.json', { text_config: text, max_position_embeddings: flat });
  expect((await readBundle(bundle, 'fp32')).contextLength).toBe(expected);
});

describe('the end token', () => {
  /** The fixture with end tokens where they are given, and nowhere else. */
  async function withEnds(ends: {
    generation?: unknown;
    text?: unknown;
    config?: unknown;
    tokenizer?: unknown;
  }): Promise<string> {
    const bundle = await copyOfFixture();
    const { text_config } = JSON.parse(await readFile(path.join(bundle, 'config.json'), 'utf8')) as {
      text_config: object;
    };
    await editJson(bundle, 'generation_config.json', { eos_token_id: ends.generation });
    await editJson(bundle, 'config.json', {
      eos_token_id: ends.config,
      text_config: { ...text_config, eos_token_id: ends.text },
    });
    await editJson(bundle, 'tokenizer_config.json', { eos_token: ends.tokenizer });
    return bundle;
  }

  test.each([
    [{ generation: [2, 7], text: 3, tokenizer: '<pad>' }, [2, 7]],
    [{ generation: null, text: 3, config: 4 }, [3]],
    [{ config: 4, tokenizer: '<pad>' }, [4]],
    [{ text: null, config: 4, tokenizer: '<pad>' }, [4]],
    [{ tokenizer: { content: '</s>' } }, [2]],
  ])('of %j', async (ends, expected) => {
    const { endTokenIds, warnings } = await readBundle(await withEnds(ends), 'fp32');
    expect(endTokenIds).toEqual(expected);
    expect(warnings).toEqual([]);
  });

  test('that no file names: an answer goes on to maxNewTokens', async () => {
    await using lvlm = await Lvlm.load(await withEnds({ tokenizer: 'no token at all' }));
    const answer = await lvlm.generate({ rawPrompt: 'x', maxNewTokens: 5 });
    expect(answer).toMatchObject({ tokenIds: { length: 5 }, finishReason: 'length' });
    expect(answer.warnings).toEqual([expect.stringMatching(/names an end token .* goes on to maxNewTokens/)]);
  });
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

describe('an image processor inside processor_config.json', () => {
  /** As `save_pretrained` of transformers 5 leaves a processor: one file. */
  async function savedAsOne(changes: Record<string, unknown>): Promise<string> {
    const bundle = await copyOfFixture();
    const file = path.join(bundle, 'preprocessor_config.json');
    const preprocessor = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>;
    await rm(file);
    await editJson(bundle, 'processor_config.json', { image_processor: { ...preprocessor, ...changes } });
    return bundle;
  }

  test('is read', async () => {
    for (const type of ['CLIPImageProcessor', 'LlavaImageProcessor', 'CLIPImageProcessorPil']) {
      const bundle = await savedAsOne({ image_processor_type: type, do_pad: false });
      expect((await readBundle(bundle, 'fp32')).family).toEqual((await readBundle(FIXTURE, 'fp32')).family);
    }
  });

  test('is what a refusal names', async () => {
    expect(await refusal(await savedAsOne({ do_pad: true }))).toMatch(
      /processor_config.json: image_processor asks for do_pad/,
    );
  });

  test('gives way to preprocessor_config.json', async () => {
    const bundle = await copyOfFixture();
    await editJson(bundle, 'processor_config.json', { image_processor: { do_pad: true } });
    expect((await readBundle(bundle, 'fp32')).family).toEqual((await readBundle(FIXTURE, 'fp32')).family);
  });
});

describe('several templates', () => {
  const withImages = (tag: string): string =>
    `{% for part in messages[0].content %}{% if part.type == 'image' %}<image>{% else %}${tag}{{ part.text }}{% endif %}{% endfor %}`;
  const textOnly = '{% for part in messages[0].content %}{{ part.text }}{% endfor %}';
  /** What the template of a bundle makes of `x` with one image, and what is warned of. */
  async function chosen(files: {
    jinja?: string;
    json?: unknown;
    processor?: unknown;
    tokenizer?: unknown;
  }): Promise<[string, readonly string[]]> {
    const bundle = await copyOfFixture();
    await editJson(bundle, 'tokenizer_config.json', { chat_template: files.tokenizer });
    await editJson(bundle, 'processor_config.json', { chat_template: files.processor });
    if (files.jinja !== undefined) await writeFile(path.join(bundle, 'chat_template.jinja'), files.jinja);
    if (files.json !== undefined)
      await writeFile(path.join(bundle, 'chat_template.json'), JSON.stringify({ chat_template: files.json }));
    const { text, warnings } = await readBundle(bundle, 'fp32');
    return [text.render([{ role: 'user', text: 'x', images: 1 }]), warnings];
  }
  const differ = (used: string, other: string): string =>
    `${used} and ${other} have different chat templates: that of ${used} is used.`;

  test('are taken in the order of the Python library', async () => {
    const [jinja, json, processor, tokenizer] = ['a', 'b', 'c', 'd'].map(withImages);
    const [first, warnings] = await chosen({ jinja, json, processor, tokenizer });
    expect(first).toBe('<image>ax');
    expect(warnings).toEqual([
      differ('chat_template.jinja', 'chat_template.json'),
      differ('chat_template.jinja', 'processor_config.json'),
      differ('chat_template.jinja', 'tokenizer_config.json'),
    ]);
    expect(await chosen({ json, processor, tokenizer })).toMatchObject(['<image>bx', { length: 2 }]);
    expect(await chosen({ processor, tokenizer })).toMatchObject(['<image>cx', { length: 1 }]);
    expect(await chosen({ tokenizer })).toEqual(['<image>dx', []]);
  });

  test('give way to the first that has a place for images', async () => {
    const failing = "{{ raise_exception('text only') }}";
    expect(await chosen({ jinja: withImages('a'), tokenizer: textOnly })).toEqual([
      '<image>ax',
      [differ('chat_template.jinja', 'tokenizer_config.json')],
    ]);
    expect(await chosen({ jinja: textOnly, json: failing, tokenizer: withImages('d') })).toEqual([
      '<image>dx',
      [
        differ('tokenizer_config.json', 'chat_template.jinja'),
        differ('tokenizer_config.json', 'chat_template.json'),
      ],
    ]);
    expect(await chosen({ jinja: textOnly, json: withImages('b') })).toMatchObject([
      '<image>bx',
      { length: 1 },
    ]);
  });

  test('that are the same are not warned of, nor are named ones', async () => {
    const template = withImages('d');
    const named = [
      { name: 'tool_use', template: withImages('t') },
      { name: 'default', template },
    ];
    expect(await chosen({ jinja: `${template}\n`, tokenizer: named })).toEqual(['<image>dx', []]);
    expect(await chosen({ json: named })).toEqual(['<image>dx', []]);
  });

  test('of which none has a place leave the first', async () => {
    const template = '{{ bos_token }}{{ messages[0].content[1].text }}';
    expect(await chosen({ jinja: template, tokenizer: textOnly })).toMatchObject(['<s>x', { length: 1 }]);
  });
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
    const settings = {
      ...{ file, model: readModel(file), weightBytes: 0, patchSize: 8, patchesPerToken: 1, visionLayers: 3 },
      feeds: pictureFeeds,
    };
    const request = { sites: [], merging: null, signals: [] };
    // No difference is below a negative tolerance.
    const reference = createSessions(platform, { threads: 1, device: 'cpu' });
    const check = openCheckedEncoder(platform, reference, settings, request, {
      ...{ probe: { width: 64, height: 64 }, tolerance: -1, reference },
    });
    await expect(check).rejects.toThrow(/features differ from the original's by/);
    expect(await verdicts(cacheDirectory)).toEqual([]);
  });
});

test("generation_config.json's repetition penalty is applied, and a call may set another", async () => {
  const bundle = await copyOfFixture();
  const call = { images: [picture(3)], prompt: 'What is this?', maxNewTokens: 12 };
  await using plain = await Lvlm.load(FIXTURE);
  const without = await plain.generate(call);
  const penalised = await plain.generate({ ...call, repetitionPenalty: 1.5 });
  expect(penalised.tokenIds).not.toEqual(without.tokenIds);
  await editJson(bundle, 'generation_config.json', { repetition_penalty: 1.5 });
  await using model = await Lvlm.load(bundle);
  expect((await model.generate(call)).tokenIds).toEqual(penalised.tokenIds);
  expect((await model.generate({ ...call, repetitionPenalty: 1 })).tokenIds).toEqual(without.tokenIds);
  await expect(model.generate({ ...call, topP: -0.1 })).rejects.toThrow(/topP must be a number from 0 to 1/);
  await editJson(bundle, 'generation_config.json', { top_k: -1 });
  await expect(Lvlm.load(bundle)).rejects.toThrow(/top_k is -1; it must be a whole number/);
});

test('a top_p of 0, which transformers allows, samples the likeliest token alone', async () => {
  const bundle = await copyOfFixture();
  const call = { images: [picture(3)], prompt: 'What is this?', maxNewTokens: 6 };
  await editJson(bundle, 'generation_config.json', { do_sample: true, top_p: 0 });
  await using model = await Lvlm.load(bundle);
  const greedy = await model.generate(call);
  for (const seed of [1, 2, 3])
    expect((await model.generate({ ...call, temperature: 5, seed })).tokenIds).toEqual(greedy.tokenIds);
  await editJson(bundle, 'generation_config.json', { top_p: -0.5 });
  await expect(Lvlm.load(bundle)).rejects.toThrow(/top_p is -0\.5; it must be a number from 0 to 1/);
});

describe('what is no bundle', () => {
  test.each([
    ['model-q4.gguf', /is a model of llama\.cpp \(GGUF\)/],
    ['model.safetensors', /is a model of PyTorch, without graphs/],
    ['pytorch_model-00001-of-00002.bin', /is a model of PyTorch/],
    ['genai_config.json', /is a model for onnxruntime-genai/],
    ['QwenVL_A_q4f16.onnx', /layout of five graphs/],
  ])('a folder with %s', async (name, message) => {
    const folder = await temporaryFolder();
    await writeFile(path.join(folder, name), '{}');
    await writeFile(path.join(folder, 'config.json'), '{"model_type":"llava"}');
    await expect(Lvlm.load(folder)).rejects.toThrow(message);
  });

  test('a file of llama.cpp', async () => {
    const file = path.join(await temporaryFolder(), 'model.gguf');
    await writeFile(file, 'GGUF');
    await expect(Lvlm.load(file)).rejects.toThrow(/GGUF/);
  });

  test('weights of PyTorch beside the graphs do not matter', async () => {
    const bundle = await copyOfFixture();
    await writeFile(path.join(bundle, 'model.safetensors'), '');
    await (await Lvlm.load(bundle)).dispose();
  });

  test('graphs of an unknown family', async () => {
    const bundle = await copyOfFixture();
    await editJson(bundle, 'config.json', { model_type: 'florence2' });
    await writeFile(path.join(bundle, 'onnx/encoder_model.onnx'), '');
    await rm(path.join(bundle, 'onnx/embed_tokens.onnx'));
    const encoder = create(ModelProtoSchema, {
      irVersion: 10n,
      opsetImport: [{ version: 17n }],
      graph: {
        input: ['pixel_values', 'pixel_position_ids'].map((name) =>
          info(name, TensorProto_DataType.FLOAT, [1]),
        ),
        output: [info('image_features', TensorProto_DataType.FLOAT, [1])],
      },
    });
    await writeFile(path.join(bundle, 'onnx/vision_encoder.onnx'), toBinary(ModelProtoSchema, encoder));
    await writeFile(path.join(bundle, 'onnx/decoder_model_merged.onnx'), 'not a graph');
    const message = await refusal(bundle);
    expect(message).toMatch(/model_type "florence2"; this runner knows llava, .*qwen3_vl\. /);
    expect(message).toContain(
      'It reads the graphs vision_encoder, embed_tokens, decoder_model_merged; not encoder_model.onnx. There is no embed_tokens. vision_encoder takes pixel_position_ids, which it cannot give. decoder_model_merged cannot be read: ',
    );
  });
});
