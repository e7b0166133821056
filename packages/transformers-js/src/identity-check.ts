/** Whether the encoder with signals computes what the model's own encoder does. */
import { Tensor, type PreTrainedModel } from '@huggingface/transformers';
import type { Encoder } from './encoder.js';
import { VisionEncoderError } from './errors.js';
import type { Llava } from './llava.js';

/**
 * Compares the two on a picture without structure: the file could be that of another model.
 * @throws VisionEncoderError where a feature differs by more than rounding, or one cannot run
 */
export async function checkSameEncoder(
  { model, session, imageSize, tolerance }: Llava,
  encoder: Encoder,
): Promise<void> {
  const [height, width] = sidesOf(session, imageSize);
  const pixels = new Tensor('float32', noise(3 * height * width), [1, 3, height, width]);
  const { expected, actual } = await features(model, encoder, pixels);
  const difference = relativeDifference(expected, actual);
  if (difference <= tolerance) return;
  throw new VisionEncoderError(
    `The file given as visionEncoder computes other features than the model's own encoder: ${difference} of the largest feature, ${tolerance} would be rounding. Give the file that the model was loaded from, of the same dtype.`,
  );
}

async function features(
  model: PreTrainedModel,
  encoder: Encoder,
  pixels: Tensor,
): Promise<{ readonly expected: Float32Array; readonly actual: Float32Array }> {
  try {
    const own = (await model.encode_image({ pixel_values: pixels })) as Tensor;
    const { data } = await encoder.project((await encoder.encode(pixels)).features);
    return { expected: own.data as Float32Array, actual: data };
  } catch (cause) {
    if (VisionEncoderError.isInstance(cause)) throw cause;
    const [, , height, width] = pixels.dims;
    throw new VisionEncoderError(
      `The vision encoder failed on a picture of ${width} x ${height} pixels: ${(cause as Error).message}`,
      { cause },
    );
  }
}

/** Height and width: what the graph declares, else what the encoder was trained with. */
function sidesOf({ inputMetadata }: Llava['session'], imageSize: number): [number, number] {
  const pixels = inputMetadata.find(({ name }) => name === 'pixel_values');
  const [height, width] = pixels?.isTensor ? pixels.shape.slice(-2) : [];
  const known = (side: number | string | undefined): number =>
    typeof side === 'number' && side > 0 ? side : imageSize;
  return [known(height), known(width)];
}

/** Values in [-2, 2), the same each time: a linear congruential generator (Numerical Recipes). */
function noise(length: number): Float32Array {
  let state = 1;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 30 - 2;
  });
}

/** In units of the largest expected value; NaN where a value is, Infinity where the lengths differ. */
function relativeDifference(expected: Float32Array, actual: Float32Array): number {
  if (expected.length !== actual.length) return Infinity;
  let difference = 0;
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    difference = Math.max(difference, Math.abs(expected[i] - actual[i]));
    largest = Math.max(largest, Math.abs(expected[i]));
  }
  return difference / largest;
}
