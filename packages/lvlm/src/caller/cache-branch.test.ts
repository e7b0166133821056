/** Decoders that Optimum merged: their layers lie in the branches of an If. */
import { create } from '@bufbuild/protobuf';
import type { TokenReducer } from '@foveate/core';
import { fastv } from '@foveate/fastv';
import { fopruRank } from '@foveate/fopru-rank';
import {
  NodeProtoSchema,
  TensorProto_DataType as DataType,
  TensorProtoSchema,
  type GraphProto,
} from 'onnx-buf';
import { describe, expect, test } from 'vitest';
import { CACHE, FIXTURE, picture } from '../../test/bundles.js';
import { familyBundle, familyCases, familyPicture } from '../../test/families.js';
import { mergedBundle } from '../../test/merged-decoder.js';
import { loadReference } from '../../test/transformers-js.js';
import { BundleError, Lvlm, type GenerateOptions } from '../index.js';

/** The same choice, made between two parts of the graph. */
function planned({ rule, ...rest }: TokenReducer): TokenReducer {
  expect(rule).toBeDefined();
  return rest;
}

describe('a merged decoder', () => {
  const cases = familyCases('llava');
  const layer1 = fastv({ layer: 1, keepRatio: 0.25 });
  test.each([
    ['every token', [], 'tokens'],
    ['FoPru', [fopruRank({ keepRatio: 0.25 })], 'fopruTokens'],
    ['FastV inside the graph', [layer1], 'fastvTokens'],
    ['FastV between two graphs', [planned(layer1)], 'fastvTokens'],
  ] as const)('%s: answers as PyTorch', async (_, reducers, expected) => {
    await using lvlm = await Lvlm.load(await mergedBundle(familyBundle('llava')), { cacheDirectory: CACHE });
    for (const one of cases) {
      const images = one.pictures.map(familyPicture);
      const { tokenIds } = await lvlm.generate({ images, prompt: one.text, maxNewTokens: 8, reducers });
      expect(tokenIds).toEqual(one[expected]);
    }
  });

  test('with num_logits_to_keep: as before it was merged, and as transformers.js', async () => {
    const bundle = await mergedBundle(FIXTURE);
    await using before = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE });
    await using after = await Lvlm.load(bundle, { cacheDirectory: CACHE });
    const images = [picture(1)];
    const layer2 = fastv({ layer: 2, keepRatio: 0.5 });
    for (const reducers of [[], [layer2], [planned(layer2)]]) {
      const options = { images, prompt: 'What is this?', maxNewTokens: 8, reducers };
      expect(await tokens(after, options)).toEqual(await tokens(before, options));
    }
    const chat = after.chat({ images });
    await chat.ask('What is this?', { maxNewTokens: 8 });
    const turn = await chat.ask('And that?', { maxNewTokens: 8 });
    expect(turn.tokenIds).toEqual(
      await tokens(before, { messages: chat.messages.slice(0, -1), maxNewTokens: 8 }),
    );
    expect(turn.reusedTokens).toBeGreaterThan(64);
    const reference = await loadReference(bundle);
    const answer = await reference.answer(images, reference.render('What is this?', 1), 8);
    await reference.dispose();
    const { tokenIds } = await after.generate({ images, prompt: 'What is this?', maxNewTokens: 8 });
    expect(tokenIds).toEqual(answer);
  });

  test.each([
    ['without a causal mask', withoutMask],
    ['for one token only', forOneToken],
  ])('whose branch for a filled cache is %s decodes, and is not patched', async (_, change) => {
    const bundle = await mergedBundle(FIXTURE, change);
    await using lvlm = await Lvlm.load(bundle, { cacheDirectory: CACHE });
    await using before = await Lvlm.load(FIXTURE, { cacheDirectory: CACHE });
    const call = { images: [picture(1)], prompt: 'What is this?', maxNewTokens: 4 };
    const reducers = [fopruRank({ keepRatio: 0.5 })];
    expect(await tokens(lvlm, { ...call, reducers })).toEqual(await tokens(before, { ...call, reducers }));
    const layer2 = fastv({ layer: 2, keepRatio: 0.5 });
    const chat = lvlm.chat({ images: call.images });
    for (const question of ['What is this?', 'And that?']) {
      const turn = await chat.ask(question, { maxNewTokens: 4 });
      const messages = chat.messages.slice(0, -1);
      expect(turn.tokenIds).toEqual(await tokens(before, { messages, maxNewTokens: 4 }));
      expect(turn.reusedTokens).toBe(0);
    }
    for (const inside of [layer2, planned(layer2)]) {
      const answer = lvlm.generate({ ...call, reducers: [inside] });
      await expect(answer).rejects.toThrow(BundleError);
      await expect(answer).rejects.toThrow(/branch for a filled cache \(use_cache_branch\).*acts before it/);
    }
  });
});

async function tokens(lvlm: Lvlm, options: GenerateOptions): Promise<readonly number[]> {
  return (await lvlm.generate(options)).tokenIds;
}

/** As a branch that was traced with one token, which sees all that is cached. */
function withoutMask({ node }: GraphProto): void {
  for (const softmax of node.filter(({ opType }) => opType === 'Softmax')) {
    const add = node.find(({ opType, output }) => opType === 'Add' && output[0] === softmax.input[0])!;
    softmax.input = [add.input[0]];
  }
}

/** As a branch in which the number of tokens became a constant. */
function forOneToken({ node, initializer }: GraphProto): void {
  for (const one of node) one.input = one.input.map((name) => (name === 'inputs_embeds' ? 'one' : name));
  const shape = { name: 'one_shape', dataType: DataType.INT64, dims: [3n], int64Data: [1n, 1n, 24n] };
  initializer.push(create(TensorProtoSchema, shape));
  node.unshift(
    create(NodeProtoSchema, { opType: 'Reshape', input: ['inputs_embeds', 'one_shape'], output: ['one'] }),
  );
}
