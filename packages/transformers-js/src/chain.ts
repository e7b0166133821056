/** The reducers of a chain, and what they read. */
import {
  atFeatures,
  checkReducer,
  requestInModel,
  requestsOf,
  signalId,
  siteId,
  UnsupportedReducerError,
  type SignalRequest,
  type TokenReducer,
  type TowerLayers,
} from '@foveate/core';

const ELSEWHERE = 'Lvlm.generate of @foveate/lvlm runs such methods.';

/** Reducers that act on the features, one after the other. */
export interface Chain {
  readonly reducers: readonly TokenReducer[];
  /** What they read, each once, by layers that are counted from the start. */
  readonly requests: readonly SignalRequest[];
}

/**
 * Checks that reducers act where transformers.js can be reached: between encoder and language model.
 * @throws InvalidArgumentError where one is no reducer; UnsupportedReducerError where one acts, or reads a
 * signal, inside the encoder's or the language model's layers
 */
export function readChain(given: TokenReducer | readonly TokenReducer[], layers: TowerLayers): Chain {
  const reducers: readonly TokenReducer[] = isList(given) ? given : [given];
  const requests = new Map<string, SignalRequest>();
  for (const [i, reducer] of reducers.entries()) {
    checkReducer(isList(given) ? `reducers[${i}]` : 'reducers', reducer);
    checkSites(reducer);
    for (const asked of requestsOf(reducer.requires, atFeatures)) {
      const request = requestInModel(asked, layers);
      if (request.signal.of === 'language-layer') {
        throw new UnsupportedReducerError(
          `${reducer.name} asks for ${signalId(request)}, which the language model makes: it comes behind the features. ${ELSEWHERE}`,
        );
      }
      requests.set(signalId(request), request);
    }
  }
  return { reducers, requests: [...requests.values()] };
}

function checkSites({ name, at, calibration }: TokenReducer): void {
  if (calibration) {
    throw new UnsupportedReducerError(
      `${name} calibrates the attention of the language model, which transformers.js runs as it is. ${ELSEWHERE}`,
    );
  }
  const inside = at.find((site) => siteId(site) !== siteId(atFeatures));
  if (!inside) return;
  const tower = inside.tower === 'vision' ? 'vision encoder' : 'language model';
  throw new UnsupportedReducerError(
    `${name} reduces tokens inside the ${tower} (${siteId(inside)}); transformers.js runs its layers as one graph, so that only methods that act on the features of the encoder work here. ${ELSEWHERE}`,
  );
}

function isList(value: TokenReducer | readonly TokenReducer[]): value is readonly TokenReducer[] {
  return Array.isArray(value);
}
