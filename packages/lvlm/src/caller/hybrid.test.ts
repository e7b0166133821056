/** Language models some of whose layers keep a state of fixed size in place of keys and values. */
import { UnsupportedReducerError, type TokenReducer } from '@foveate/core';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import { prumerge } from '@foveate/prumerge';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { ModelProtoSchema, TensorProto_DataType as DataType } from 'onnx-buf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CACHE, picture } from '../../test/bundles.js';
import { ATTENTION_LAYERS, HYBRID_LAYERS, makeHybrid, mixedRows } from '../../test/hybrid-model.js';
import { enteringRows, languageModel, type LanguageModel } from '../../test/language-models.js';
import { info } from '../../test/llama-graph.js';
import { forward } from '../../test/llama.js';
import { END, type Rows } from '../../test/plain-decoding.js';
import { readBundle } from '../bundle/bundle.js';
import { preprocess } from '../bundle/preprocessing.js';
import { BundleError, Lvlm } from '../index.js';
import { decodeImage } from '../platform/image-files.js';
import { resize } from '../platform/node.js';

const PROMPT = 'What is this?';
const NEW = 8;

let model: LanguageModel;
let lvlm: Lvlm;
beforeAll(async () => {
  model = await languageModel('written out');
  await makeHybrid(model.bundle, model.llama.norm.length);
  lvlm = await Lvlm.load(model.bundle, { cacheDirectory: CACHE });
});
afterAll(async () => {
  await lvlm.dispose();
  await model.remove();
});

/** Greedy answer, every token anew from the first on. */
async function answer(ids: readonly number[], image: Rows): Promise<number[]> {
  const rows = [...(await model.plain.prompt(ids, [image]))];
  const tokens: number[] = [];
  while (tokens.length < NEW) {
    const { logits } = forward(model.llama, mixedRows(rows));
    const token = logits.indexOf(Math.max(...logits));
    if (token === END) break;
    tokens.push(token);
    rows.push(...(await model.plain.embed([token])));
  }
  return tokens;
}

describe('a hybrid language model', () => {
  test.each<[string, TokenReducer[]]>([
    ['every token', []],
    ['FoPru', [fopruRank({ keepRatio: 0.25 })]],
    ['PruMerge', [prumerge()]],
  ])('%s: answers as computed without states', async (_, reducers) => {
    const bundle = await readBundle(model.bundle, 'fp32');
    const ids = bundle.text.encode(bundle.text.render([{ role: 'user', text: PROMPT, images: 1 }]), 1);
    for (const seed of [1, 2, 3]) {
      const images = [picture(seed)];
      const result = await lvlm.generate({ images, prompt: PROMPT, maxNewTokens: NEW, reducers });
      const decoded = await decodeImage(images[0], 'image', 2 ** 26);
      const pixels = await preprocess(decoded, bundle.family.preprocessing, resize);
      const rows = await enteringRows(model.plain, pixels, result.images[0].crops[0].steps);
      expect(result.tokenIds).toEqual(await answer(ids, rows));
      const { cached, kvBytesPerLayer } = result.memory;
      const tokens = cached.text + cached.visual + cached.generated;
      const { kvHeads, headDim } = lvlm.info;
      expect(kvBytesPerLayer).toEqual(
        Array.from({ length: HYBRID_LAYERS }, (__, layer) =>
          ATTENTION_LAYERS.includes(layer) ? 2 * kvHeads * headDim * 4 * tokens : 0,
        ),
      );
    }
  });

  test('answers the next prompt from zeros', async () => {
    const call = { images: [picture(4)], prompt: PROMPT, maxNewTokens: NEW };
    const first = await lvlm.generate(call);
    await lvlm.generate({ ...call, images: [picture(5)] });
    expect((await lvlm.generate(call)).tokenIds).toEqual(first.tokenIds);
  });

  test('goes on in a chat where nothing has to be cut back, and reads the history anew where it has', async () => {
    const chat = lvlm.chat({ images: [picture(4)] });
    const reused: number[] = [];
    for (const question of ['What is it?', 'Why?', 'How many?']) {
      const turn = await chat.ask(question, { maxNewTokens: NEW });
      const messages = chat.messages.slice(0, -1);
      const whole = await lvlm.generate({ messages, maxNewTokens: NEW });
      expect(turn.tokenIds).toEqual(whole.tokenIds);
      reused.push(turn.reusedTokens);
    }
    const prompt = chat.messages.at(-2)?.content ?? '';
    const fork = lvlm.chat({ messages: chat.messages.slice(0, -2) });
    expect((await fork.ask(prompt, { maxNewTokens: NEW })).reusedTokens).toBe(0);
    expect(reused[0]).toBe(0);
  });

  test('FastV cannot run, in the graph or by its plans', async () => {
    const { rule, ...planned } = fastv({ layer: 2, keepRatio: 0.5 });
    expect(lvlm.info.layers).toBe(HYBRID_LAYERS);
    for (const reducer of [{ ...planned, rule }, planned] as TokenReducer[]) {
      const result = lvlm.generate({ images: [picture(1)], prompt: PROMPT, reducers: [reducer] });
      await expect(result).rejects.toThrow(UnsupportedReducerError);
      await expect(result).rejects.toThrow(/a recurrent cache \(past_conv\.0\).*acts in the vision encoder/);
      const loaded = Lvlm.load(model.bundle, { cacheDirectory: CACHE, reducers: [reducer] });
      await expect(loaded).rejects.toThrow(UnsupportedReducerError);
    }
  });

  test('a state that grows is refused, naming it', async () => {
    const grown = await languageModel('written out');
    const file = path.join(grown.bundle, 'onnx/decoder_model_merged.onnx');
    const proto = fromBinary(ModelProtoSchema, await readFile(file));
    const shape = ['batch_size', 'length', 4];
    proto.graph!.input.push(info('past_indexer.0.kv', DataType.FLOAT, shape));
    await writeFile(file, toBinary(ModelProtoSchema, proto));
    const loaded = Lvlm.load(grown.bundle, { cacheDirectory: CACHE });
    await expect(loaded).rejects.toThrow(BundleError);
    await expect(loaded).rejects.toThrow(
      /needs the input past_indexer\.0\.kv, which this runner does not know/,
    );
    await grown.remove();
  });
});
