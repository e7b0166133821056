/** Models that transformers.js loads, and what they and the runner answer. */
import {
  AutoProcessor,
  env,
  LlavaForConditionalGeneration,
  RawImage,
  type DataType,
  type PreTrainedModel,
  type Processor,
  type Tensor,
} from '@huggingface/transformers';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { random, uniform } from '@foveate/baselines';
import type { TokenReducer } from '@foveate/core';
import { fastervlm } from '@foveate/fastervlm';
import { fopruRank } from '@foveate/fopru-rank';
import { fopruRow } from '@foveate/fopru-row';
import { pooling } from '@foveate/pooling';
import { prumerge, prumergePlus } from '@foveate/prumerge';
import { vispruner } from '@foveate/vispruner';
import { visionzip } from '@foveate/visionzip';
import { imagesDirectory, modelDirectory, questionsFile } from '@foveate/tiny-llava';

env.allowRemoteModels = false;
env.localModelPath = path.parse(process.cwd()).root;

/** The embedded model: CLIP, 256 visual tokens a picture. */
export const TINY: string = modelDirectory;

/** A small random model with a CLIP, 64 visual tokens a picture: its answers are long. */
export const CLIP: string = fileURLToPath(new URL('../../lvlm/fixtures/random-llava', import.meta.url));

/** A small random model: SigLIP without a class token, 16 visual tokens a picture. */
export const SIGLIP: string = fileURLToPath(new URL('../../lvlm/fixtures/families/llava', import.meta.url));

/** Path of the encoder of a bundle. */
export function encoderOf(bundle: string, suffix = ''): string {
  return path.join(bundle, 'onnx', `vision_encoder${suffix}.onnx`);
}

/** A picture and a question about it. */
export interface Ask {
  /** Path of the picture. */
  readonly image: string;
  readonly question: string;
}

/** The first questions of the embedded model, of several pictures. */
export function questions(count: number): Ask[] {
  const lines = readFileSync(questionsFile, 'utf8').trim().split('\n');
  return lines.slice(0, 7 * count).flatMap((line, i) => {
    const { image, question } = JSON.parse(line) as { image: string; question: string };
    return i % 7 === 0 ? [{ image: path.join(imagesDirectory, path.basename(image)), question }] : [];
  });
}

/** A loaded model, with what makes its inputs. */
export interface Loaded {
  readonly model: PreTrainedModel;
  readonly processor: Processor;
}

/** Loads a bundle. */
export async function load(
  bundle: string,
  dtype: DataType | Record<string, DataType> = 'fp32',
): Promise<Loaded> {
  const processor = await AutoProcessor.from_pretrained(bundle);
  // transformers.js writes no image token at all where Python's default of this setting is left out.
  (processor.config as Record<string, unknown>).num_additional_image_tokens ??= 0;
  const model = await LlavaForConditionalGeneration.from_pretrained(bundle, { dtype, device: 'cpu' });
  return { model, processor };
}

/** What `generate` takes. */
export interface Inputs {
  readonly input_ids: Tensor;
  readonly attention_mask: Tensor;
  readonly pixel_values: Tensor;
}

/** The inputs of a question, in the chat template. */
export async function inputsOf({ processor }: Loaded, { image, question }: Ask): Promise<Inputs> {
  const content = [{ type: 'image' }, { type: 'text', text: question }];
  const prompt = processor.apply_chat_template([{ role: 'user', content }] as never, {
    add_generation_prompt: true,
  }) as unknown as string;
  return (await processor(await RawImage.read(image), prompt)) as Inputs;
}

/** The tokens behind a prompt, without the end token: greedy. */
export async function answer(loaded: Loaded, inputs: object, maxNewTokens = 8): Promise<number[]> {
  const { model, processor } = loaded;
  const output = (await model.generate({
    ...inputs,
    max_new_tokens: maxNewTokens,
    do_sample: false,
  })) as Tensor;
  const all = (output.tolist() as bigint[][])[0].map(Number);
  const tokens = all.slice((inputs as Inputs).input_ids.dims[1]);
  const end = processor.tokenizer?.eos_token_id as unknown;
  return tokens.at(-1) === end ? tokens.slice(0, -1) : tokens;
}

/** The name that `@foveate/lvlm` has for a picture: of its decoded pixels. */
export async function nameOf(image: string): Promise<string> {
  const { data, width, height } = (await RawImage.read(image)).rgb();
  return createHash('sha256').update(`${width}x${height}:`).update(data).digest('hex');
}

/** The methods, at a quarter of the tokens where they take a budget. */
export const METHODS: Readonly<Record<string, () => TokenReducer>> = {
  'fopru-rank': () => fopruRank({ keepRatio: 0.25 }),
  'fopru-row': () => fopruRow({ keepRatio: 0.25 }),
  prumerge: () => prumerge({ keepRatio: 0.25 }),
  'prumerge-plus': () => prumergePlus(),
  pooling: () => pooling(),
  uniform: () => uniform({ keepRatio: 0.25 }),
  random: () => random({ keepRatio: 0.25 }),
  fastervlm: () => fastervlm({ keepRatio: 0.25 }),
  visionzip: () => visionzip({ keepRatio: 0.25 }),
  vispruner: () => vispruner({ keepRatio: 0.25 }),
};
