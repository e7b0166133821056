/** The errors of the runner, on top of those of @foveate/core. */
import { FoveateError } from '@foveate/core';

/**
 * A bundle is missing, damaged, of a kind that this runner does not know, or its files do not fit together.
 */
export class BundleError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/BundleError');
  override readonly name = 'BundleError';
}

/**
 * A model cannot be had from the hub: it is not there or not for this user, the network or the hub fails, what
 * it sends is not what it lists, or the cache lacks it and may not be filled.
 */
export class HubError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/HubError');
  override readonly name = 'HubError';
  /** The HTTP status that the hub answered, e.g. 401; null where it is about no answer. */
  readonly status: number | null;

  constructor(message: string, { status = null, cause }: { status?: number | null; cause?: unknown } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.status = status;
  }
}

/** An image cannot be read: missing, no image, damaged, too large, or named by a URL. */
export class ImageError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/ImageError');
  override readonly name = 'ImageError';
}

/**
 * A prompt cannot be read: empty, longer than the model's context, or with another number of image tokens
 * than images.
 */
export class PromptError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/PromptError');
  override readonly name = 'PromptError';
}

/**
 * The encoder with signals, or cut at its projector, does not compute what the bundle's own encoder computes.
 */
export class IdentityCheckError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/IdentityCheckError');
  override readonly name = 'IdentityCheckError';
}

/** A native library (onnxruntime-node or sharp) has no binary for this platform, or was not installed. */
export class PlatformError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/PlatformError');
  override readonly name = 'PlatformError';
}

/** The worker thread ended, or onnxruntime failed while it ran the model. */
export class WorkerError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/WorkerError');
  override readonly name = 'WorkerError';
}

/** The model, or the chat, was disposed before the call or while it waited. */
export class DisposedError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/DisposedError');
  override readonly name = 'DisposedError';

  constructor(message: string = 'The model was disposed: load it again to go on.') {
    super(message);
  }
}
