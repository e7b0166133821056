/** The errors of this package, on top of those of @foveate/core. */
import { FoveateError } from '@foveate/core';

/** The model is no LLaVA that transformers.js runs as an encoder, embeddings and a decoder in float32. */
export class UnsupportedModelError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/transformers-js/UnsupportedModelError');
  override readonly name = 'UnsupportedModelError';
}

/**
 * The vision encoder's file cannot be read, cannot be given the outputs that the reducers read, or is not the
 * encoder of the model.
 */
export class VisionEncoderError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/transformers-js/VisionEncoderError');
  override readonly name = 'VisionEncoderError';
}

/**
 * A call of the model whose visual tokens cannot be reduced: a batch, several pictures in one prompt, padding,
 * positions of the caller's own, or other image tokens than the picture has.
 */
export class UnsupportedCallError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/transformers-js/UnsupportedCallError');
  override readonly name = 'UnsupportedCallError';
}
