/** What transformers.js answers from a bundle of any family that it has, with every visual token. */
import {
  AutoModelForImageTextToText,
  AutoProcessor,
  env,
  RawImage,
  type DataType,
  type Tensor,
} from '@huggingface/transformers';
import path from 'node:path';
import type { RawImage as Picture } from '../src/index.js';

env.allowRemoteModels = false;
env.localModelPath = path.parse(process.cwd()).root;

/** transformers.js with a loaded bundle. */
export interface FamilyReference {
  /** Greedy answer to a question about one picture (for several it is wrong on Qwen2-VL), without the end token. */
  answer(image: Picture, text: string, maxNewTokens: number): Promise<number[]>;
  dispose(): Promise<void>;
}

/** Loads a bundle. */
export async function loadFamilyReference(
  bundle: string,
  dtype: DataType | Record<string, DataType> = 'fp32',
): Promise<FamilyReference> {
  const processor = await AutoProcessor.from_pretrained(bundle);
  const model = await AutoModelForImageTextToText.from_pretrained(bundle, { dtype, device: 'cpu' });
  return {
    answer: async (image, text, maxNewTokens) => {
      const content = [{ type: 'image' }, { type: 'text', text }];
      const prompt = processor.apply_chat_template([{ role: 'user', content }] as never, {
        add_generation_prompt: true,
      }) as unknown as string;
      const raw = new RawImage(new Uint8ClampedArray(image.data), image.width, image.height, image.channels);
      const inputs = (await processor(prompt, raw)) as { input_ids: Tensor };
      const options = { max_new_tokens: maxNewTokens, do_sample: false };
      const output = (await model.generate({ ...inputs, ...options })) as Tensor;
      const all = (output.tolist() as bigint[][])[0].map(Number);
      const end = processor.tokenizer?.eos_token_id as unknown;
      return all.slice(inputs.input_ids.dims[1]).filter((token) => token !== end);
    },
    dispose: async () => {
      await model.dispose();
    },
  };
}
