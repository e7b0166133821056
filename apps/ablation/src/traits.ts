/** What a method is by its own declaration: where it acts, and what it needs of a model and of its input. */
import {
  createTokens,
  GridRequiredError,
  planTokens,
  requestsOf,
  signalId,
  type DeclaredSite,
  type GivenSignal,
  type SignalAxis,
  type SignalRequest,
  type TokenReducer,
} from '@foveate/core';

/** Where a method acts; `'several'`: at more than one of these. */
export type Place = 'encoder' | 'features' | 'language' | 'several';

/** By the sites that it declares. */
export function placeOf({ at }: TokenReducer): Place {
  const [place, ...others] = new Set(at.map(placeOfSite));
  return others.length > 0 ? 'several' : place;
}

function placeOfSite({ tower, layer }: DeclaredSite): Place {
  if (tower === 'language') return 'language';
  return layer === 'features' ? 'features' : 'encoder';
}

/** What a model or its input may lack, in words. */
export async function needsOf(reducer: TokenReducer): Promise<string[]> {
  const requests = signalsOf(reducer);
  const needs: [string, boolean][] = [
    ['a class token', requests.some(({ signal }) => signal.name === 'classAttention')],
    ['a grid', await needsGrid(reducer)],
    ['the question', requests.some(({ signal: { of, shape } }) => of === 'prompt' || shape.includes('T'))],
    ['the text’s attention to the image', requests.some(({ signal: { name } }) => TEXT_ATTENTION.has(name))],
  ];
  return needs.filter(([, isNeeded]) => isNeeded).map(([need]) => need);
}

/** How the text looks at the image. */
const TEXT_ATTENTION: ReadonlySet<string> = new Set(['promptAttention', 'questionAttention']);

/** The signals that it reads, as {@link signalId} writes them for the layers that it declares; each once. */
export function readsOf(reducer: TokenReducer): string[] {
  return [...new Set(signalsOf(reducer).map(signalId))];
}

function signalsOf({ requires }: TokenReducer): SignalRequest[] {
  return Object.values(requires).map((required) =>
    'similarityBy' in required ? required.similarityBy : required,
  );
}

/** How long each axis is of tokens that are made to try a method. */
const LENGTHS: Readonly<Record<SignalAxis, number>> = { N: 576, D: 8, H: 2, S: 577, T: 3, L: 2 };

/** No requirement says it, so it is tried: on tokens without a grid, of signals that mean nothing. */
async function needsGrid(reducer: TokenReducer): Promise<boolean> {
  for (const [stage, site] of reducer.at.entries()) {
    try {
      const signals = requestsOf(reducer.requires, site).map(valuesOf);
      const places = Uint32Array.from({ length: LENGTHS.N }, (_, token) => token);
      await planTokens(reducer, createTokens({ length: LENGTHS.N, places, signals }), site, stage);
    } catch (error) {
      if (GridRequiredError.isInstance(error)) return true;
    }
  }
  return false;
}

function valuesOf(request: SignalRequest): GivenSignal {
  const length = request.signal.shape.reduce((product, axis) => product * LENGTHS[axis], 1);
  const values = Float32Array.from({ length }, (_, index) => ((index * 37) % 101) / 101);
  return { ...request, values };
}
