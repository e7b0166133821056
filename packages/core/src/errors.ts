/**
 * The errors of Foveate. Every class carries a marker made with `Symbol.for`, so that `X.isInstance(error)`
 * also recognises an error thrown by another installed copy of this package, where `instanceof` would not.
 */
interface MarkedClass<T> {
  readonly marker: symbol;
  readonly prototype: T;
}

/**
 * Base of every error that Foveate throws on purpose: `FoveateError.isInstance(error)` tells it from a
 * defect.
 */
export class FoveateError extends Error {
  static readonly marker: symbol = Symbol.for('@foveate/FoveateError');
  override readonly name: string = 'FoveateError';

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    // new.target and each of its ancestors up to FoveateError leave their mark on the instance.
    for (
      let type: typeof FoveateError = new.target;
      Object.hasOwn(type, 'marker');
      type = Object.getPrototypeOf(type) as typeof FoveateError
    ) {
      Object.defineProperty(this, type.marker, { value: true });
    }
  }

  /** Whether `error` is of this class (or one derived from it), whichever copy of the package made it. */
  static isInstance<T>(this: MarkedClass<T>, error: unknown): error is T {
    return error instanceof Error && this.marker in error;
  }
}

/** An argument or option is out of its range or of the wrong type. */
export class InvalidArgumentError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/InvalidArgumentError');
  override readonly name = 'InvalidArgumentError';
  /** The argument's name, e.g. `keepRatio`. */
  readonly argument: string;

  constructor(argument: string, received: unknown, expected: string) {
    super(`${argument} must be ${expected}; received ${describe(received)}.`);
    this.argument = argument;
  }
}

/** A signal came with the wrong length or with values that it cannot have. */
export class InvalidSignalError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/InvalidSignalError');
  override readonly name = 'InvalidSignalError';
  /** Which signal, as `signalId` writes it, e.g. `attentionGiven@features`. */
  readonly signal: string;

  constructor(signal: string, problem: string) {
    super(
      `Signal ${signal} ${problem}. It comes from whoever ran the model: check its graph and its inputs.`,
    );
    this.signal = signal;
  }
}

/** A method asked for a signal that these tokens cannot give. */
export class SignalUnavailableError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/SignalUnavailableError');
  override readonly name = 'SignalUnavailableError';
  /** Which signal, as `signalId` writes it, e.g. `classAttention@features:joined`. */
  readonly signal: string;
  /** Completes "Signal X is not available: ..." and says what to do instead. */
  readonly reason: string;

  constructor(signal: string, reason: string) {
    super(`Signal ${signal} is not available: ${reason}`);
    this.signal = signal;
    this.reason = reason;
  }
}

/** A plan breaks an invariant of {@link ReductionPlan}: the reducer that made it has a defect. */
export class InvalidPlanError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/InvalidPlanError');
  override readonly name = 'InvalidPlanError';
}

/** Two plans have no product that is again one plan. Apply them one after the other instead. */
export class PlanCompositionError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/PlanCompositionError');
  override readonly name = 'PlanCompositionError';
}

/** A reducer works on grid rows or windows, and the tokens it got do not fill a grid. */
export class GridRequiredError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/GridRequiredError');
  override readonly name = 'GridRequiredError';
  /** The reducer that needs the grid. */
  readonly reducer: string;

  constructor(reducer: string, length: number) {
    super(
      `${reducer} needs tokens that fill a grid; it received ${length} tokens without one, because the encoder has none ` +
        `or a reducer before it broke it. Put ${reducer} before reducers that pick single tokens ` +
        `(for example, put fopru-row before fopru-rank).`,
    );
    this.reducer = reducer;
  }
}

/** A reducer does something that a runner, or the model in it, cannot do. */
export class UnsupportedReducerError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/UnsupportedReducerError');
  override readonly name = 'UnsupportedReducerError';
}

/** No reducer of that name is registered. */
export class UnknownReducerError extends FoveateError {
  static override readonly marker: symbol = Symbol.for('@foveate/UnknownReducerError');
  override readonly name = 'UnknownReducerError';

  constructor(reducer: string, known: readonly string[]) {
    super(`No reducer is called ${describe(reducer)}. Known reducers: ${known.join(', ')}.`);
  }
}

/** A value as an error message shows it: short, and never throwing. */
function describe(value: unknown): string {
  if (typeof value === 'string')
    return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}...` : value);
  if (typeof value === 'function') return `the function ${value.name || 'without a name'}`;
  if (ArrayBuffer.isView(value)) return `${value.constructor.name} of ${value.byteLength} bytes`;
  if (typeof value === 'object' && value !== null) {
    try {
      return describeJson(JSON.stringify(value));
    } catch {
      return Object.prototype.toString.call(value);
    }
  }
  return String(value);
}

function describeJson(json: string): string {
  return json.length > 80 ? `${json.slice(0, 80)}...` : json;
}
