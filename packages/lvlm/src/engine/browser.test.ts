/**
 * The engine, the families and the arithmetic of bundles without Node: bundled for a browser, and at work on
 * onnxruntime's WebAssembly.
 */
import { selectionPlan, topIndicesAscending } from '@foveate/core';
import { fopruRank } from '@foveate/fopru-rank';
import { parseModel } from '@foveate/onnx-graph';
import { build, type BuildResult } from 'esbuild';
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { InferenceSession, Tensor } from 'onnxruntime-web';
import { beforeAll, describe, expect, test } from 'vitest';
import { CACHE, FIXTURE, picture, temporaryFolder } from '../../test/bundles.js';
import type * as preprocessingModule from '../bundle/preprocessing.js';
import { readBundle } from '../bundle/bundle.js';
import { plainRules } from '../bundle/generation-rules.js';
import { formsRequest, reductionChain } from '../caller/reduction-chain.js';
import type * as familiesModule from '../families/index.js';
import { Lvlm } from '../index.js';
import { resize } from '../platform/node.js';
import type { EnginePlatform } from '../platform/platform.js';
import type { CallerApi, CropTokens } from './api.js';
import type * as engineModule from './engine.js';

const SOURCE = fileURLToPath(new URL('..', import.meta.url));
/** What a page needs of the runner to run an engine. */
const ENTRY = `
export { createEngine } from './engine/engine.js';
export { connect } from './engine/channel.js';
export { familyOf, readFamily } from './families/index.js';
export { preprocess } from './bundle/preprocessing.js';`;

type Page = typeof engineModule & typeof familiesModule & typeof preprocessingModule;

let result: BuildResult<{ write: false; metafile: true }>;
beforeAll(async () => {
  result = await build({
    stdin: { contents: ENTRY, resolveDir: SOURCE, loader: 'ts' },
    ...{ bundle: true, platform: 'browser', format: 'esm', minify: true, write: false, metafile: true },
    conditions: ['@foveate/source'],
    logLevel: 'silent',
  });
});

/** What a page would give an engine; a page fetches what this reads from disk. */
function webPlatform(): EnginePlatform {
  const bytesOf = async (file: string): Promise<Uint8Array> => new Uint8Array(await readFile(file));
  return {
    Tensor,
    fallbacks: () => [],
    openSession: async (graph) =>
      InferenceSession.create(typeof graph === 'string' ? await bytesOf(graph) : graph.bytes),
    readModel: async (file) => parseModel(await bytesOf(file)),
    hashFile: async (file) =>
      createHash('sha256')
        .update(await bytesOf(file))
        .digest('hex'),
    totalMemory: 2 ** 32,
    now: () => performance.now(),
    changedFile: async () => null,
    verdicts: null,
  };
}

test('nothing of Node is in the bundle, which is as small as it says', () => {
  const [{ text, contents }] = result.outputFiles;
  const files = Object.keys(result.metafile.inputs);
  console.log(
    `The engine for a browser: ${files.length} files, ${(contents.length / 1000).toFixed(0)} kB, ${(gzipSync(contents).length / 1000).toFixed(0)} kB with gzip`,
  );
  expect(Object.values(result.metafile.outputs).flatMap(({ imports }) => imports)).toEqual([]);
  expect(text).not.toMatch(/["']node:|require\(/);
  for (const heavy of ['sharp', 'onnxruntime-node', 'platform/node', 'bundle/files'])
    expect(files.filter((file) => file.includes(heavy))).toEqual([]);
});

describe('on WebAssembly', () => {
  test('FoPru keeps the tokens, and the first token is the one, of the runner in Node', async () => {
    const file = path.join(await temporaryFolder(), 'page.mjs');
    await writeFile(file, result.outputFiles[0].contents);
    // eslint-disable-next-line foveate/imports -- the bundle was only just written
    const page = (await import(pathToFileURL(file).href)) as Page;
    const { family, graphs, text } = await readBundle(FIXTURE, 'fp32', { newlines: 'drop' });
    const image = picture(3);
    const reducers = [fopruRank({ keepRatio: 0.25 })];
    const ask = { images: [image], prompt: 'What is this?', maxNewTokens: 1 };
    await using lvlm = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE });
    const expected = await lvlm.generate({ ...ask, reducers });

    const size = { width: image.width, height: image.height };
    const kept: number[] = [];
    const caller: CallerApi = {
      image: async () => {
        const crops = await page
          .familyOf(family)
          .preprocess({ ...size, data: new Uint8Array(image.data) }, family, resize, 1);
        return { imageHash: 'picture', size, crops, written: [] };
      },
      planCrops: async ([{ length, signals }]: readonly CropTokens[]) => {
        // FoPru (arXiv 2411.14164, Eq. 4 and 5) by hand: of attention given and received the one that varies
        // more.
        const of = (name: string): Float32Array =>
          signals.find(({ signal }) => signal.name === name)!.values!;
        const variance = (values: Float32Array): number => {
          const mean = values.reduce((a, b) => a + b) / values.length;
          return values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
        };
        const [given, received] = [of('attentionGiven'), of('attentionReceived')];
        kept.push(
          ...topIndicesAscending(variance(given) > variance(received) ? given : received, length / 4),
        );
        return [[selectionPlan(kept, length)]];
      },
      reduceCrop: () => Promise.reject(new Error('no backend')),
      planPrompt: () => Promise.reject(new Error('no site')),
      token: () => undefined,
    };
    const engine = page.createEngine(
      async () => webPlatform(),
      () => caller,
      () => undefined,
    );
    const { layers } = await engine.open({
      ...{
        graphs,
        threads: 1,
        device: 'cpu',
        family,
        identityTolerance: 1e-4,
        rotaryBase: 1e4,
        maxChatBytes: 0,
      },
    });
    const chain = reductionChain(reducers, { vision: family.visionLayers, language: layers });
    const outcome = await engine.generate({
      ...formsRequest(chain, false),
      promptIds: text.encode(text.render([{ role: 'user', text: 'What is this?', images: 1 }]), 1),
      rules: plainRules,
      imageTokenId: family.imageTokenId,
      ...{ endTokenIds: [], contextLength: null, images: 1, reuseEncoding: false, handOut: false },
      ...{ maxNewTokens: 1, temperature: 0, seed: 0, stream: false, stop: new Int32Array(1) },
      chat: null,
      per: 'crop',
    });
    expect(kept).toEqual(expected.images[0].crops[0].steps[0].kept);
    expect(outcome?.tokenIds).toEqual(expected.tokenIds);
    await engine.dispose();
  });
});
