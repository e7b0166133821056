/**
 * With every visual token the families answer as transformers.js does, from pictures that have to be
 * resampled. One picture a prompt: for several it is wrong on Qwen2-VL.
 */
import {
  AutoModelForImageTextToText,
  AutoProcessor,
  env,
  RawImage,
  type PreTrainedModel,
  type Processor,
  type Tensor,
} from '@huggingface/transformers';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CACHE, editJson, picture } from '../../test/bundles.js';
import { familyBundle } from '../../test/families.js';
import { Lvlm, type RawImage as Picture } from '../index.js';

env.allowRemoteModels = false;
env.localModelPath = path.parse(process.cwd()).root;

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
  let theirs: { readonly processor: Processor; readonly model: PreTrainedModel };
  beforeAll(async () => {
    bundle = await bundleOf(family);
    ours = await Lvlm.load(bundle, { cacheDirectory: CACHE });
    theirs = {
      processor: await AutoProcessor.from_pretrained(bundle),
      model: await AutoModelForImageTextToText.from_pretrained(bundle, { dtype: 'fp32', device: 'cpu' }),
    };
  });
  afterAll(async () => {
    await ours.dispose();
    await theirs.model.dispose();
    if (bundle !== familyBundle(family)) await rm(bundle, { recursive: true });
  });

  const answer = async (image: Picture, text: string): Promise<number[]> => {
    const { processor, model } = theirs;
    const content = [{ type: 'image' }, { type: 'text', text }];
    const prompt = processor.apply_chat_template([{ role: 'user', content }] as never, {
      add_generation_prompt: true,
    }) as unknown as string;
    const raw = new RawImage(new Uint8ClampedArray(image.data), image.width, image.height, image.channels);
    const inputs = (await processor(prompt, raw)) as { input_ids: Tensor };
    const output = (await model.generate({ ...inputs, max_new_tokens: 8, do_sample: false })) as Tensor;
    const all = (output.tolist() as bigint[][])[0].map(Number);
    const end = processor.tokenizer?.eos_token_id as unknown;
    return all.slice(inputs.input_ids.dims[1]).filter((token) => token !== end);
  };

  test.each(SIZES)('a picture of %i x %i', async (width, height) => {
    const image = picture(width, width, height);
    const { tokenIds } = await ours.generate({ images: [image], prompt: 'What is this?', maxNewTokens: 8 });
    expect(tokenIds).toEqual(await answer(image, 'What is this?'));
  });
});
