/** The prompt of a call: where its picture stands, and the same prompt with fewer rows for it. */
import { Tensor } from '@huggingface/transformers';
import type { Rows } from './encoder.js';
import { UnsupportedCallError, UnsupportedModelError } from './errors.js';
import type { ForwardInputs } from './llava.js';

/** A call with one picture. */
export interface PicturePrompt {
  /** [1, S] */
  readonly ids: Tensor;
  /** [1, 3, height, width] */
  readonly pixels: Tensor;
  /** The first image token, and how many there are, one behind the other. */
  readonly start: number;
  readonly placeholders: number;
}

/** Whether a call brings a picture: generated tokens come with the pixels again, but one at a time. */
export function bringsPicture({ input_ids, pixel_values, inputs_embeds }: ForwardInputs): boolean {
  return Boolean(pixel_values) && !inputs_embeds && input_ids?.dims.at(-1) !== 1;
}

/**
 * Finds the picture of a call.
 * @throws UnsupportedCallError on several prompts or pictures, padding, positions of the caller's own, and
 * image tokens that are not one run
 */
export function findPicture(
  { input_ids: ids, pixel_values: pixels, attention_mask: mask, position_ids: positions }: ForwardInputs,
  imageTokenId: number,
): PicturePrompt {
  if (!ids || !pixels) throw new UnsupportedCallError('A picture came without the input_ids of its prompt.');
  if (ids.dims[0] !== 1) {
    throw new UnsupportedCallError(
      `A batch of ${ids.dims[0]} prompts cannot be reduced: give them one by one.`,
    );
  }
  if (pixels.dims.length !== 4 || pixels.dims[0] !== 1 || pixels.type !== 'float32') {
    throw new UnsupportedCallError(
      `pixel_values are ${pixels.type} [${pixels.dims.join(', ')}]; one picture a prompt can be reduced, float32 [1, 3, height, width]. @foveate/lvlm reduces several.`,
    );
  }
  if (positions)
    throw new UnsupportedCallError('position_ids would no longer fit the prompt: leave them out.');
  if (mask && Array.from(mask.data as BigInt64Array).includes(0n)) {
    throw new UnsupportedCallError('A prompt with padding cannot be reduced: give it without.');
  }
  return { ids, pixels, ...imageRun(ids, imageTokenId) };
}

function imageRun(ids: Tensor, imageTokenId: number): Pick<PicturePrompt, 'start' | 'placeholders'> {
  const wanted = BigInt(imageTokenId);
  const places = Array.from(ids.data as BigInt64Array).flatMap((id, i) => (id === wanted ? [i] : []));
  const [start = 0] = places;
  if (places.every((place, i) => place === start + i)) return { start, placeholders: places.length };
  throw new UnsupportedCallError(
    'The image tokens of the prompt are not one run: one picture can be reduced.',
  );
}

/**
 * The rows of text around a picture.
 * @param embeddings [1, S, D], the picture's place among them
 * @returns [T, D]
 */
export function textRows(embeddings: Tensor, { start, placeholders }: PicturePrompt): Float32Array {
  const data = rowsOf(embeddings);
  const width = data.length / embeddings.dims[1];
  const text = new Float32Array(data.length - placeholders * width);
  text.set(data.subarray(0, start * width));
  text.set(data.subarray((start + placeholders) * width), start * width);
  return text;
}

/**
 * The call with a picture's rows in its place: positions follow from the mask.
 * @param text [T, D], see {@link textRows}
 */
export function withRows(
  inputs: ForwardInputs,
  { ids, start, placeholders }: PicturePrompt,
  text: Float32Array,
  picture: Rows,
): ForwardInputs {
  const before = ids.dims[1];
  const length = before - placeholders + picture.length; // S'
  const data = new Float32Array(text.length + picture.data.length);
  const width = data.length / length; // D
  data.set(text.subarray(0, start * width));
  data.set(picture.data, start * width);
  data.set(text.subarray(start * width), start * width + picture.data.length);
  const cached = (inputs.attention_mask?.dims[1] ?? before) - before;
  return {
    ...inputs,
    input_ids: null,
    pixel_values: null,
    inputs_embeds: new Tensor('float32', data, [1, length, width]),
    attention_mask: ones(cached + length),
  };
}

/** [1, count] */
function ones(count: number): Tensor {
  return new Tensor('int64', new BigInt64Array(count).fill(1n), [1, count]);
}

/** @throws UnsupportedModelError on another type than float32 */
function rowsOf({ type, data }: Tensor): Float32Array {
  if (data instanceof Float32Array) return data;
  throw new UnsupportedModelError(
    `The embeddings of the model are ${type}; pictures are put among embeddings of float32. Load embed_tokens of another dtype.`,
  );
}
