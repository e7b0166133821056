/** Models of the hub, from a hub on the loopback interface that behaves well, badly, or not at all. */
import { existsSync } from 'node:fs';
import { cp, mkdir, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import path from 'node:path';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { modelDirectory } from '@foveate/tiny-llava';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { picture, temporaryFolder } from '../../test/bundles.js';
import { runChild } from '../../test/child.js';
import { withExternalWeights } from '../../test/external-weights.js';
import { COMMIT, ID, servedFile, serveHub, type HubServer, type ServedFile } from '../../test/hub-server.js';
import { bundleFolder, HubError, Lvlm, pullBundle, type DownloadProgress } from '../index.js';

const DECODER = 'onnx/decoder_model_merged.onnx';
const TEXTS = [
  'config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'generation_config.json',
  'preprocessor_config.json',
  'processor_config.json',
];
const GRAPHS = ['onnx/vision_encoder.onnx', 'onnx/embed_tokens.onnx', DECODER];

let home: string;
let hub: HubServer;
beforeEach(async () => {
  home = await temporaryFolder();
  hub = await serveHub(modelDirectory);
  for (const name of ['HF_TOKEN', 'HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE']) vi.stubEnv(name, undefined);
  vi.stubEnv('HF_HOME', home);
  vi.stubEnv('HF_ENDPOINT', hub.endpoint);
});
afterEach(() => {
  vi.unstubAllEnvs();
});

const cache = (...names: string[]): string => path.join(home, 'hub/models--foveate--tiny', ...names);

async function refusal(work: Promise<unknown>): Promise<HubError> {
  const error = await work.then(
    () => null,
    (cause: unknown) => cause,
  );
  expect(error).toBeInstanceOf(HubError);
  return error as HubError;
}

/** That no file of the snapshot can be opened, and that every blob is what its name says. */
async function expectNothingHalf(): Promise<void> {
  expect(existsSync(cache('snapshots'))).toBe(false);
  for (const name of await readdir(cache('blobs')).catch(() => []))
    if (!name.includes('.')) {
      const { listed } = servedFile(
        name.length === 64 ? 'onnx/x' : 'x',
        await readFile(cache('blobs', name)),
      );
      expect(listed.lfs?.oid ?? listed.oid).toBe(name);
    }
  expect((await refusal(bundleFolder(ID, { localOnly: true }))).message).toContain(DECODER);
}

/** Answers of a bundle: as it is, reduced on the features, reduced inside the language model. */
async function answersOf(model: string): Promise<unknown[]> {
  await using lvlm = await Lvlm.load(model, { cacheDirectory: path.join(home, 'verdicts') });
  const answers = [];
  for (const reducers of [[], [fopruRank({ keepRatio: 0.25 })], [fastv({ layer: 2, keepRatio: 0.5 })]]) {
    const options = { images: [picture(3, 128, 128)], prompt: 'What is it?', reducers, maxNewTokens: 6 };
    const { tokenIds, equivalentTokens } = await lvlm.generate(options);
    answers.push({ tokenIds, equivalentTokens });
  }
  return answers;
}

describe('a model of the hub', () => {
  test.each([
    ['weights in the graphs', 0],
    ['weights beside them', 1],
    ['weights in two files beside each', 2],
  ])('answers as its folder does: %s', async (_, files) => {
    const folder =
      files === 0 ? modelDirectory : await withExternalWeights(modelDirectory, path.join(home, 'x'), files);
    if (files > 0) vi.stubEnv('HF_ENDPOINT', (await serveHub(folder)).endpoint);
    const expected = await answersOf(modelDirectory);
    expect(await answersOf(ID)).toEqual(expected);
    expect((await readdir(cache('snapshots', COMMIT, 'onnx'))).length).toBe(
      3 * (files + 1) - (files === 2 ? 1 : 0),
    );
  });

  test('only what the dtype needs is fetched, and only once', async () => {
    for (const name of [
      'README.md',
      'model.safetensors',
      'onnx/decoder_model_merged_q4.onnx',
      `${DECODER}_data`,
    ])
      hub.files.set(name, servedFile(name, Buffer.from(name)));
    hub.files.set(
      'onnx/vision_encoder_q4.onnx_data',
      servedFile('onnx/vision_encoder_q4.onnx_data', Buffer.from('x')),
    );
    hub.files.set('chat_template.jinja', servedFile('chat_template.jinja', Buffer.from('{{ messages }}')));
    const folder = await bundleFolder(ID);
    expect(folder).toBe(cache('snapshots', COMMIT));
    expect(hub.fetched()).toEqual([...TEXTS, 'chat_template.jinja', ...GRAPHS, `${DECODER}_data`]);
    for (const name of [...TEXTS, ...GRAPHS])
      await expectSame(path.join(folder, name), await readFile(path.join(modelDirectory, name)));
    hub.seen.length = 0;
    expect(await bundleFolder(ID, { revision: 'v1' })).toBe(folder);
    expect(hub.fetched()).toEqual([]);
    expect(await readFile(cache('refs/main'), 'utf8')).toBe(COMMIT);
  });

  test('what is missing and how large it is, and each file as it comes', async () => {
    const told: DownloadProgress[] = [];
    await bundleFolder(ID, { dtype: 'fp32', onProgress: (progress) => told.push(progress) });
    const sizes = await Promise.all(
      [...TEXTS, ...GRAPHS].map(async (name) => (await readFile(path.join(modelDirectory, name))).length),
    );
    const size = sizes.reduce((sum, bytes) => sum + bytes);
    expect(told[0]).toEqual({
      ...{ file: 'config.json', received: 0, size: sizes[0] },
      missing: { files: 9, received: 0, size },
    });
    expect(told.at(-1)).toEqual({
      ...{ file: DECODER, received: sizes[8], size: sizes[8] },
      missing: { files: 9, received: size, size },
    });
    expect([...new Set(told.map(({ file }) => file))]).toEqual([...TEXTS, ...GRAPHS]);
    const received = told.map(({ missing }) => missing.received);
    expect(received).toEqual(received.toSorted((a, b) => a - b));
    told.length = 0;
    await bundleFolder(ID, { onProgress: (progress) => told.push(progress) });
    expect(told).toEqual([]);
  });

  test('localOnly needs no network, and a cache that was moved is one', async () => {
    expect((await refusal(bundleFolder(ID, { localOnly: true }))).message).toMatch(
      /foveate\/tiny \(main, dtype fp32\) is not in the cache .*config\.json.*decoder_model_merged\.onnx missing.*foveate pull/,
    );
    expect(hub.seen).toEqual([]);
    await bundleFolder(ID);
    await hub.close();
    expect((await refusal(bundleFolder(ID))).message).toMatch(/cannot be reached: fetch failed, .*localOnly/);
    const moved = path.join(home, 'elsewhere');
    await mkdir(moved);
    await rename(path.join(home, 'hub'), path.join(moved, 'hub'));
    await refusal(bundleFolder(ID, { localOnly: true }));
    vi.stubEnv('HF_HOME', moved);
    await using lvlm = await Lvlm.load(ID, { localOnly: true });
    expect(lvlm.info.directory).toBe(path.join(moved, 'hub/models--foveate--tiny/snapshots', COMMIT));
    expect((await refusal(bundleFolder(ID, { localOnly: true, dtype: 'q4' }))).message).toMatch(/_q4\.onnx/);
  });

  test('a token goes to the hub, and not where the hub sends on', async () => {
    vi.stubEnv('HF_TOKEN', 'a token of some form');
    await bundleFolder(ID);
    const tokens = (origin: string): unknown[] => [
      ...new Set(hub.seen.filter((seen) => seen.origin === origin).map(({ authorization }) => authorization)),
    ];
    expect(tokens('hub')).toEqual(['Bearer a token of some form']);
    expect(tokens('cdn')).toEqual([undefined]);
    expect(hub.seen.filter(({ origin }) => origin === 'cdn')).toHaveLength(3);
  });
});

describe('names', () => {
  test('the network is left alone for everything but owner/name', async () => {
    for (const name of [
      './foveate/tiny',
      '../foveate/tiny',
      '/foveate/tiny',
      'tiny',
      'a/foveate/tiny',
      '.foveate/tiny',
    ])
      await expect(Lvlm.load(name)).rejects.toThrow(/is no folder.*owner\/name/);
    await expect(pullBundle('./foveate/tiny')).rejects.toThrow(/model must be .*owner\/name/);
    expect(hub.seen).toEqual([]);
  });

  test('a folder of that name wins', async () => {
    const before = process.cwd();
    process.chdir(home);
    try {
      await cp(modelDirectory, path.join(home, ID), { recursive: true });
      await using lvlm = await Lvlm.load(ID);
      expect(lvlm.info.directory).toBe(path.resolve(ID));
      await expect(Lvlm.load(ID, { revision: 'v1' })).rejects.toThrow(
        /revision must be left out for a folder/,
      );
      expect(hub.seen).toEqual([]);
    } finally {
      process.chdir(before);
    }
  });

  test('revisions', async () => {
    expect(await bundleFolder(ID, { revision: 'refs/pr/1' })).toBe(cache('snapshots', COMMIT));
    expect(await bundleFolder(ID, { revision: COMMIT, localOnly: true })).toBe(cache('snapshots', COMMIT));
    expect(await bundleFolder(ID, { revision: 'refs/pr/1', localOnly: true })).toBe(
      cache('snapshots', COMMIT),
    );
    const unknown = await refusal(bundleFolder(ID, { revision: 'v9' }));
    expect(unknown).toMatchObject({
      status: 404,
      message: expect.stringContaining('has no revision v9') as string,
    });
    for (const revision of ['../../x', '/etc', '', 'a/../b'])
      await expect(bundleFolder(ID, { revision })).rejects.toThrow(/revision must be a branch/);
  });
});

describe('a hub that refuses', () => {
  test.each<[number, Record<string, string>, string | undefined, RegExp]>([
    [401, {}, undefined, /no such model, or it is private or gated.*HF_TOKEN/],
    [401, {}, 'hf_x', /token in HF_TOKEN is wrong, has expired/],
    [403, {}, undefined, /Accept its terms at .*foveate\/tiny, and set HF_TOKEN/],
    [403, {}, 'hf_x', /the token in HF_TOKEN may not read it/],
    [404, {}, undefined, /Check the name; a folder is written \.\/foveate\/tiny/],
    [429, { 'retry-after': '17' }, undefined, /Wait 17 s .*HF_TOKEN the limit is higher/],
    [429, {}, 'hf_x', /Wait some minutes/],
  ])('%i', async (status, headers, token, message) => {
    vi.stubEnv('HF_TOKEN', token);
    // At once, as for a private model; and for the files only, as for a gated one.
    for (const at of ['/api/', '/resolve/']) {
      hub.intercept = ({ url = '' }, response) => {
        if (url.includes(at)) response.writeHead(status, headers).end('{}');
        return url.includes(at);
      };
      const error = await refusal(Lvlm.load(ID));
      expect(error.status).toBe(status);
      expect(error.message).toMatch(message);
      expect(error.message).not.toContain('hf_x');
    }
    await expectNothingHalf();
  });

  test('a model without the dtype, and one without graphs', async () => {
    hub.files.set(
      'onnx/decoder_model_merged_q4.onnx',
      servedFile('onnx/decoder_model_merged_q4.onnx', Buffer.of(1)),
    );
    expect((await refusal(bundleFolder(ID, { dtype: 'fp16' }))).message).toMatch(
      /lacks onnx\/vision_encoder_fp16\.onnx.*decoders it has .*decoder_model_merged_q4\.onnx/,
    );
    for (const name of [...hub.files.keys()]) if (name.startsWith('onnx/')) hub.files.delete(name);
    expect((await refusal(bundleFolder(ID, { dtype: 'fp32' }))).message).toMatch(
      /not in the layout of transformers\.js/,
    );
    expect(hub.fetched()).toEqual([]);
  });

  test('no hub at all', async () => {
    hub.intercept = (_, response) => {
      response.writeHead(200, { 'content-type': 'text/html' }).end('<html>Log in first</html>');
      return true;
    };
    expect((await refusal(bundleFolder(ID))).message).toMatch(/no hub's reply.*HF_ENDPOINT/);
    vi.stubEnv('HF_ENDPOINT', 'hub.example');
    expect((await refusal(bundleFolder(ID))).message).toMatch(/HF_ENDPOINT must be the address/);
  });

  test('a listing that would write elsewhere, or larger than the disk', async () => {
    const { listed } = hub.files.get('config.json')!;
    const { oid, size } = listed;
    listed.oid = '../../../elsewhere';
    expect((await refusal(bundleFolder(ID))).message).toMatch(/config\.json without a size or a hash/);
    Object.assign(listed, { oid, size: 2 ** 52 });
    expect((await refusal(bundleFolder(ID, { dtype: 'fp32' }))).message).toMatch(
      /needs 4503599638\.\d MB more, and .* has room for .*Missing: config\.json \(4503599627\.4 MB\), .*HF_HOME/,
    );
    listed.size = size;
    await expectNothingHalf();
  });
});

/** Sends the first half, and hangs up once some of it is in the cache. */
async function hangUp(response: ServerResponse, { bytes, listed }: ServedFile): Promise<void> {
  response.writeHead(200, { 'content-length': bytes.length }).write(bytes.subarray(0, half({ bytes })));
  const partial = `${cache('blobs', listed.lfs!.oid)}.partial`;
  await vi.waitUntil(async () => ((await stat(partial).catch(() => null))?.size ?? 0) > 0, 10_000);
  response.destroy();
}

function half({ bytes }: { readonly bytes: Buffer }): number {
  return Math.floor(bytes.length / 2);
}

async function expectSame(file: string, bytes: Buffer): Promise<void> {
  expect((await readFile(file)).equals(bytes), file).toBe(true);
}

describe('a download that goes wrong', () => {
  test('goes on where the connection broke', async () => {
    const broken = new Set<string>();
    hub.intercept = ({ url = '' }, response, file) => {
      if (!(file && /^\/cdn|\/tokenizer\.json$/.test(url)) || broken.has(url)) return false;
      broken.add(url);
      if (url.startsWith('/cdn')) void hangUp(response, file);
      else response.destroy(); // before the headers
      return true;
    };
    const folder = await bundleFolder(ID);
    for (const name of GRAPHS) {
      await expectSame(path.join(folder, name), hub.files.get(name)!.bytes);
      const asked = hub.seen.filter(({ url }) => url === `/cdn/${name}`).map(({ range }) => range);
      expect(asked).toHaveLength(2);
      expect(asked[0]).toBeUndefined();
      const from = Number(/^bytes=(\d+)-$/.exec(asked[1] ?? '')?.[1]);
      expect(from).toBeGreaterThan(0);
      expect(from).toBeLessThanOrEqual(half(hub.files.get(name)!));
    }
  });

  test('a hub that breaks off each time, and the next call', async () => {
    hub.intercept = ({ url = '' }, response, file) => {
      if (!file || !url.endsWith(DECODER)) return false;
      response.destroy();
      return true;
    };
    const error = await refusal(Lvlm.load(ID));
    expect(error.message).toMatch(
      /decoder_model_merged\.onnx: 0 of its 7804352 bytes came in 5 tries: .*Run it again/,
    );
    await expectNothingHalf();
    hub.seen.length = 0;
    hub.intercept = () => false;
    await bundleFolder(ID);
    expect(hub.fetched()).toEqual([DECODER]);
  });

  test('a server that knows no ranges is read from the start', async () => {
    const blob = cache('blobs', hub.files.get(DECODER)!.listed.lfs!.oid);
    await mkdir(cache('blobs'), { recursive: true });
    await writeFile(`${blob}.partial`, 'the start of something else');
    hub.intercept = (request, response, file) => {
      if (!file || !request.url!.startsWith('/cdn')) return false;
      response.writeHead(200).end(file.bytes);
      return true;
    };
    await bundleFolder(ID);
    await expectSame(blob, hub.files.get(DECODER)!.bytes);
  });

  test('a start that was wrong is fetched again', async () => {
    const { bytes, listed } = hub.files.get(DECODER)!;
    await mkdir(cache('blobs'), { recursive: true });
    await writeFile(`${cache('blobs', listed.lfs!.oid)}.partial`, Buffer.alloc(half({ bytes }), 7));
    await expectSame(path.join(await bundleFolder(ID), DECODER), bytes);
    const ranges = hub.seen.filter(({ url }) => url === `/cdn/${DECODER}`).map(({ range }) => range);
    expect(ranges).toEqual([`bytes=${half({ bytes })}-`, undefined]);
  });

  test.each(['config.json', DECODER])('wrong bytes of %s', async (name) => {
    const file = hub.files.get(name)!;
    file.bytes = Buffer.from(file.bytes);
    file.bytes[half(file)] ^= 1;
    const { message } = await refusal(Lvlm.load(ID));
    const { listed } = servedFile(name, file.bytes);
    expect(message).toContain(listed.lfs?.oid ?? listed.oid);
    expect(message).toMatch(/and the hub lists .*run it again/);
    await expectNothingHalf();
  });

  test.each([
    ['more than there are', 10, /lists 7804362 bytes and has fewer/],
    ['fewer than there are', -10, /lists 7804342 bytes and has more/],
  ])('a listing of %s', async (_, more, message) => {
    hub.files.get(DECODER)!.listed.lfs!.size += more;
    expect((await refusal(Lvlm.load(ID))).message).toMatch(message);
    await expectNothingHalf();
  });

  test('a part that is not the one asked for', async () => {
    hub.intercept = ({ url = '', headers }, response, file) => {
      if (!file || url !== `/cdn/${DECODER}`) return false;
      if (headers.range) response.writeHead(206, { 'content-range': 'bytes 5-9/10' }).end('wrong');
      else void hangUp(response, file);
      return true;
    };
    expect((await refusal(Lvlm.load(ID))).message).toMatch(/sent those from 5 on, not from \d+/);
    await expectNothingHalf();
  });

  test('a folder that cannot be written', async () => {
    await writeFile(path.join(home, 'hub'), 'a file');
    expect((await refusal(bundleFolder(ID))).message).toMatch(
      /models--foveate--tiny cannot be written: ENOTDIR/,
    );
  });
});

describe('processes', () => {
  const script = `await using model = await Lvlm.load('${ID}');
    console.log((await model.generate({ prompt: 'x', maxNewTokens: 3 })).tokenIds.join());`;
  const env = (): Record<string, string | undefined> => ({
    ...{ HF_HOME: home, HF_ENDPOINT: hub.endpoint, HF_TOKEN: undefined, XDG_CACHE_HOME: home },
  });

  test('two at once fetch each file once, and both answer', async () => {
    hub.intercept = ({ url = '' }, response, file) => {
      if (!file || !url.startsWith('/cdn')) return false;
      response.writeHead(200, { 'content-length': file.bytes.length });
      response.write(file.bytes.subarray(0, half(file)));
      setTimeout(() => response.end(file.bytes.subarray(half(file))), 1500); // the other one comes meanwhile
      return true;
    };
    const ended = await Promise.all([runChild(script, { env: env() }), runChild(script, { env: env() })]);
    expect(ended.map(({ stderr }) => stderr)).toEqual(['', '']);
    expect(ended[0].stdout).toMatch(/^\d+(,\d+)*\n$/);
    expect(ended[1].stdout).toBe(ended[0].stdout);
    expect(hub.fetched().toSorted()).toEqual([...TEXTS, ...GRAPHS].toSorted());
  });

  test('what a killed one fetched is not fetched again', async () => {
    const onProgress = `({ file, received }) => file === '${DECODER}' && received > 0 && console.log(received)`;
    let isKilled = false;
    hub.intercept = ({ url = '' }, response, file) => {
      if (!file || url !== `/cdn/${DECODER}` || isKilled) return false;
      response
        .writeHead(200, { 'content-length': file.bytes.length })
        .write(file.bytes.subarray(0, 1_000_000));
      return true; // and no more
    };
    const killed = await runChild(`await Lvlm.load('${ID}', { onProgress: ${onProgress} });`, {
      ...{ env: env(), signal: 'SIGKILL' },
    });
    expect(killed.signal).toBe('SIGKILL');
    isKilled = true;
    await expectNothingHalf();
    expect((await runChild(script, { env: env() })).stderr).toBe('');
    const ranges = hub.seen.filter(({ url }) => url === `/cdn/${DECODER}`).map(({ range }) => range);
    expect(ranges).toEqual([undefined, expect.stringMatching(/^bytes=[1-9]\d*-$/)]);
  });
});
