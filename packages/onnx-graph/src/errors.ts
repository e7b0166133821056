/**
 * The errors of this package. As everywhere in Foveate they carry markers made with `Symbol.for`, so that
 * `X.isInstance(error)` also recognises an error thrown by another installed copy of the package; they carry
 * FoveateError's marker too, without this package depending on @foveate/core.
 */
interface MarkedClass<T> {
  readonly marker: symbol;
  readonly prototype: T;
}

/**
 * A message holds names from the file, which a damaged or hostile one can make as long as itself: what was
 * looked for and the advice stand at the ends.
 */
function shorten(message: string): string {
  return message.length <= 1500 ? message : `${message.slice(0, 1000)} ... ${message.slice(-400)}`;
}

/** Base of every error that this package throws on purpose. */
export class OnnxGraphError extends Error {
  static readonly marker: symbol = Symbol.for('@foveate/OnnxGraphError');
  override readonly name: string = 'OnnxGraphError';

  constructor(message: string, options?: ErrorOptions) {
    super(shorten(message), options);
    for (const marker of [Symbol.for('@foveate/FoveateError'), OnnxGraphError.marker, new.target.marker]) {
      Object.defineProperty(this, marker, { value: true });
    }
  }

  /** Whether `error` is of this class (or one derived from it), whichever copy of the package made it. */
  static isInstance<T>(this: MarkedClass<T>, error: unknown): error is T {
    return error instanceof Error && this.marker in error;
  }
}

/**
 * A file or buffer is not an ONNX model that can be used: missing, truncated, foreign, or its weights are out
 * of bounds.
 */
export class OnnxFileError extends OnnxGraphError {
  static override readonly marker: symbol = Symbol.for('@foveate/OnnxFileError');
  override readonly name = 'OnnxFileError';
  /** The file's path, or `'bytes'` for a model read from memory. */
  readonly file: string;

  /** `problem` is a sentence without its subject's name: what was found, and what to do. */
  constructor(file: string, problem: string, options?: ErrorOptions) {
    super(`${file}: ${problem}`, options);
    this.file = file;
  }
}

/** The graph does not have the structure that was looked for. */
export class OnnxStructureError extends OnnxGraphError {
  static override readonly marker: symbol = Symbol.for('@foveate/OnnxStructureError');
  override readonly name = 'OnnxStructureError';
  /** What was looked for, e.g. `'the self-attention nearest upstream of "image_features"'`. */
  readonly lookedFor: string;
  /** What the graph has instead. */
  readonly found: string;

  constructor(file: string, lookedFor: string, found: string, advice: string) {
    super(`${file}: looked for ${lookedFor}; found ${found}. ${advice}`);
    this.lookedFor = lookedFor;
    this.found = found;
  }
}

/** An argument is out of its range, or names something that the graph does not have. */
export class OnnxArgumentError extends OnnxGraphError {
  static override readonly marker: symbol = Symbol.for('@foveate/OnnxArgumentError');
  override readonly name = 'OnnxArgumentError';
  /** The argument's name, e.g. `requests[0].layer`. */
  readonly argument: string;

  constructor(argument: string, received: unknown, expected: string) {
    super(`${argument} must be ${expected}; received ${String(received)}.`);
    this.argument = argument;
  }
}
