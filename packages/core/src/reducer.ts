import type { Budget } from './budget.js';
import { InvalidArgumentError, InvalidPlanError, SignalUnavailableError } from './errors.js';
import { createPlan, type ReductionPlan } from './plan.js';
import { checkSignal, signalId, type SignalRequest } from './signals.js';
import { checkTokens, type VisualTokens } from './visual-tokens.js';

/** What every reducer has. */
export interface ReducerBase {
  /** The version of this interface. */
  readonly specificationVersion: 1;
  /** Lower-case letters, digits and hyphens, e.g. `fopru-rank`. */
  readonly name: string;
  /** The signals that `plan` reads. A runner provides exactly these. */
  readonly requires: readonly SignalRequest[];
  /**
   * Decides what becomes of the tokens; the same tokens always give the same plan.
   * @throws FoveateError of the kind that fits, where the tokens or their signals are not what they should be
   */
  plan(tokens: VisualTokens): Promise<ReductionPlan>;
}

/** Runs before the projector, on one image or crop at a time. */
export interface VisionReducer extends ReducerBase {
  readonly stage: 'vision';
}

/** Runs inside the decoder, on all visual tokens of a prompt together. */
export interface LanguageReducer extends ReducerBase {
  readonly stage: 'language';
  /** K >= 1: layers 0 .. K-1 see every token, and the input of layer K is reduced. */
  readonly layer: number;
  /** Set where `plan` keeps, ascending, the highest scores of one signal (ties: lower index), so that a runner may do it inside its graph. */
  readonly topK?: { readonly score: SignalRequest; readonly budget: Budget };
}

/** A method that reduces visual tokens. It never touches a model nor copies features: it looks at signals and returns a plan. */
export type TokenReducer = VisionReducer | LanguageReducer;

/**
 * Guards a reducer's edges, so that its author writes the method alone: the definition is checked now; on every call the tokens are checked
 * before `plan` sees them, each signal when it is read (it must be in `requires`), and the plan before it goes out.
 * @throws InvalidArgumentError where the definition breaks the interface
 */
export function defineReducer<Reducer extends TokenReducer>(definition: Reducer): Reducer {
  checkDefinition(definition);
  const guarded: Reducer = {
    ...definition,
    plan: async (tokens: VisualTokens) => {
      checkTokens(tokens);
      const plan = createPlan(await definition.plan(guardSignals(tokens, definition)));
      if (plan.inputLength !== tokens.length) {
        throw new InvalidPlanError(
          `${definition.name} made a plan for ${plan.inputLength} tokens; there are ${tokens.length}.`,
        );
      }
      return plan;
    },
  };
  Object.freeze(guarded);
  return guarded;
}

function guardSignals(tokens: VisualTokens, { name, requires }: TokenReducer): VisualTokens {
  const required = new Set(requires.map(signalId));
  const requireSignal = (request: SignalRequest): void => {
    if (required.has(signalId(request))) return;
    throw new SignalUnavailableError(signalId(request), `${name} does not list it in its requires.`);
  };
  return {
    length: tokens.length,
    ...(tokens.grid && { grid: tokens.grid }),
    spans: tokens.spans,
    key: tokens.key,
    signal: async (request) => {
      requireSignal(request);
      return checkSignal(request, await tokens.signal(request), tokens.length);
    },
    nearest: async (of, k, layer = 'features') => {
      requireSignal({ signal: 'keys', layer });
      return tokens.nearest(of, k, layer);
    },
  };
}

/**
 * Checks that a value is a reducer, by whomever, of the interface that this package has.
 * @param argument - its name in the error
 * @throws InvalidArgumentError
 */
export function checkReducer(argument: string, value: unknown): asserts value is TokenReducer {
  const { specificationVersion, stage, requires, plan } = Object(value) as Partial<TokenReducer>;
  const isReducer =
    specificationVersion === 1 &&
    (stage === 'vision' || stage === 'language') &&
    Array.isArray(requires) &&
    typeof plan === 'function';
  if (isReducer) return;
  const expected = 'a reducer of specificationVersion 1, as createFopruRank() returns one';
  throw new InvalidArgumentError(argument, value, expected);
}

function checkDefinition(reducer: TokenReducer): void {
  if (!/^[a-z][a-z0-9-]*$/.test(reducer.name)) {
    throw new InvalidArgumentError('name', reducer.name, 'lower-case letters, digits and hyphens');
  }
  if (reducer.stage === 'vision') return;
  const { layer, topK, requires } = reducer;
  if (!(Number.isSafeInteger(layer) && layer >= 1)) {
    throw new InvalidArgumentError(
      'layer',
      layer,
      'a positive integer: the first decoder layer that sees fewer tokens',
    );
  }
  if (topK && !requires.some((request) => signalId(request) === signalId(topK.score))) {
    throw new InvalidArgumentError('topK.score', topK.score, 'one of the signals in requires');
  }
}
