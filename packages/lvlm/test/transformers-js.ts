/** What transformers.js answers from a bundle: the reference of the unreduced path. */
import {
  AutoProcessor,
  env,
  LlavaForConditionalGeneration,
  RawImage,
  type DataType,
  type Processor,
  type Tensor,
} from '@huggingface/transformers';
import path from 'node:path';
import sharp from 'sharp';
import type { ImageInput } from '../src/index.js';

env.allowRemoteModels = false;
env.localModelPath = path.parse(process.cwd()).root;

/** transformers.js with a loaded bundle. */
export interface Reference {
  /** Greedy answer to a prompt with `<image>` once for each image, without the end token. */
  answer(images: readonly ImageInput[], prompt: string, maxNewTokens: number): Promise<number[]>;
  /** pixel_values of one image. */
  pixels(image: ImageInput): Promise<Float32Array>;
  /** The user's turn in the chat template. */
  render(text: string, images: number): string;
  decode(tokens: readonly number[]): string;
  dispose(): Promise<void>;
}

interface ImageInputs {
  readonly pixel_values: Tensor;
}

/** Loads a bundle. */
export async function loadReference(
  bundle: string,
  dtype: DataType | Record<string, DataType> = 'fp32',
): Promise<Reference> {
  const processor: Processor = await AutoProcessor.from_pretrained(bundle);
  const model = await LlavaForConditionalGeneration.from_pretrained(bundle, { dtype, device: 'cpu' });
  const { tokenizer, image_processor: imageProcessor } = processor;
  if (!tokenizer || !imageProcessor) throw new Error(`${bundle} has no tokenizer or image processor`);
  const preprocess = async (images: readonly ImageInput[]): Promise<ImageInputs> =>
    (await imageProcessor(await Promise.all(images.map(toRawImage)))) as ImageInputs;
  return {
    answer: async (images, prompt, maxNewTokens) => {
      const inputs = images.length > 0 ? await preprocess(images) : undefined;
      const [, , height, width] = inputs?.pixel_values.dims ?? [0, 0, 0, 0];
      const tokensAnImage = (height / 8) * (width / 8);
      // The processor of transformers.js expands the first image token only.
      const expanded = prompt.replaceAll('<image>', '<image>'.repeat(tokensAnImage));
      const text = tokenizer(expanded) as { input_ids: Tensor };
      const output = (await model.generate({
        ...inputs,
        ...text,
        max_new_tokens: maxNewTokens,
        do_sample: false,
      })) as Tensor;
      const all = (output.tolist() as bigint[][])[0].map(Number);
      const tokens = all.slice(text.input_ids.dims[1]);
      return tokens.at(-1) === 2 ? tokens.slice(0, -1) : tokens;
    },
    pixels: async (image) => (await preprocess([image])).pixel_values.data as Float32Array,
    render: (text, images) => {
      const content = [...Array.from({ length: images }, () => ({ type: 'image' })), { type: 'text', text }];
      return processor.apply_chat_template([{ role: 'user', content }] as never, {
        add_generation_prompt: true,
      }) as unknown as string;
    },
    decode: (tokens) => tokenizer.decode([...tokens], { skip_special_tokens: true }),
    dispose: async () => {
      await model.dispose();
    },
  };
}

async function toRawImage(image: ImageInput): Promise<RawImage> {
  if (typeof image === 'string') return RawImage.read(image);
  if (image instanceof Uint8Array)
    return RawImage.fromBlob(new Blob([await sharp(image).toFormat('png').toBuffer()]));
  return new RawImage(new Uint8ClampedArray(image.data), image.width, image.height, image.channels);
}
