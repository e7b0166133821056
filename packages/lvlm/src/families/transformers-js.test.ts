/**
 * With every visual token the families answer as transformers.js does, from pictures that have to be
 * resampled. One picture a prompt: for several it is wrong on Qwen2-VL.
 */
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CACHE, editJson, picture } from '../../test/bundles.js';
import { familyBundle } from '../../test/families.js';
import { loadFamilyReference, type FamilyReference } from '../../test/transformers-js-family.js';
import { loadReference, type Reference } from '../../test/transformers-js.js';
import { Lvlm } from '../index.js';

/**
 * Of photographs, strips and small pictures; none with a side of 1.5, 2.5 ... tokens, which Qwen2-VL rounds
 * otherwise.
 */
const SIZES = [
  [90, 70],
  [33, 121],
  [64, 20],
  [13, 15],
  [201, 199],
] as const;

/** A bundle of a family. Qwen3-VL has the inputs and outputs of Qwen2.5-VL, whose graphs stand for its own. */
async function bundleOf(family: string): Promise<string> {
  if (family !== 'qwen3_vl') return familyBundle(family);
  const bundle = await mkdtemp(path.join(tmpdir(), 'foveate-lvlm-'));
  await cp(familyBundle('qwen2_5_vl'), bundle, { recursive: true });
  await editJson(bundle, 'config.json', { model_type: family });
  await editJson(bundle, 'preprocessor_config.json', { processor_class: 'Qwen3VLProcessor' });
  return bundle;
}

describe.each(['idefics3', 'smolvlm', 'qwen2_vl', 'qwen2_5_vl', 'qwen3_vl'])('%s', (family) => {
  let bundle: string;
  let ours: Lvlm;
  let theirs: FamilyReference;
  beforeAll(async () => {
    bundle = await bundleOf(family);
    ours = await Lvlm.load(bundle, { cacheDirectory: CACHE });
    theirs = await loadFamilyReference(bundle);
  });
  afterAll(async () => {
    await ours.dispose();
    await theirs.dispose();
    if (bundle !== familyBundle(family)) await rm(bundle, { recursive: true });
  });

  test.each(SIZES)('a picture of %i x %i', async (width, height) => {
    const image = picture(width, width, height);
    const { tokenIds } = await ours.generate({ images: [image], prompt: 'What is this?', maxNewTokens: 8 });
    expect(tokenIds).toEqual(await theirs.answer(image, 'What is this?', 8));
  });
});

// Their processor takes images and text in another order, and needs a number that not every bundle states.
describe.each(['llava', 'llava_clip'])('%s', (family) => {
  let ours: Lvlm;
  let theirs: Reference;
  beforeAll(async () => {
    ours = await Lvlm.load(familyBundle(family), { cacheDirectory: CACHE });
    theirs = await loadReference(familyBundle(family));
  });
  afterAll(async () => {
    await ours.dispose();
    await theirs.dispose();
  });

  test.each(SIZES)('a picture of %i x %i', async (width, height) => {
    const image = picture(width, width, height);
    const { tokenIds, finishReason } = await ours.generate({
      images: [image],
      prompt: 'What?',
      maxNewTokens: 8,
    });
    const answer = await theirs.answer([image], theirs.render('What?', 1), 8);
    expect(tokenIds).toEqual(finishReason === 'end' ? answer.slice(0, -1) : answer);
  });
});
