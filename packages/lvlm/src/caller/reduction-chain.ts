/** The reducers of a call in the order of the data: which acts where, and what the engine has to provide for it. Runs in the caller's thread. */
import {
  atFeatures,
  attentionMap,
  beforeLanguageLayer,
  mapGivesExactly,
  requestsOf,
  signalId,
  type LanguageSite,
  type SignalRequest,
  type Site,
  type TokenReducer,
} from '@foveate/core';
import type { FormsRequest, LanguageRequest, VisionRequest } from '../engine/api.js';
import { UnsupportedReducerError } from '../platform/errors.js';

/** Layers of the two towers. */
export interface TowerLayers {
  readonly vision: number;
  readonly language: number;
}

/** The reducers that act at one site, in the order of the chain. */
export interface SiteReducers {
  /** With its layer counted from the start. */
  readonly site: Site;
  readonly reducers: readonly TokenReducer[];
}

/** A chain of reducers in the order of the data. */
export interface ReductionChain {
  /** On the encoder's features; without reducers where none acts there. */
  readonly features: SiteReducers;
  /** Inside the language model; null where nothing acts there. */
  readonly language: (SiteReducers & { readonly site: LanguageSite }) | null;
  readonly layers: TowerLayers;
}

/**
 * Puts reducers at their sites.
 * @throws UnsupportedReducerError where there is no such layer, a reducer stands behind one that acts later, or one acts where this runner
 * reduces nothing
 */
export function reductionChain(reducers: readonly TokenReducer[], layers: TowerLayers): ReductionChain {
  const steps = reducers.flatMap((reducer) =>
    reducer.at.map((site) => ({ reducer, layer: layerInModel(site, layers, reducer) })),
  );
  checkOrder(steps);
  const actingAt = (layer: Site['layer']): TokenReducer[] =>
    steps.filter((step) => step.layer === layer).map(({ reducer }) => reducer);
  const inside = new Set(steps.map(({ layer }) => layer));
  inside.delete('features');
  const language = [...inside].map((layer) => ({
    site: beforeLanguageLayer(layer as number),
    reducers: actingAt(layer),
  }));
  if (language.length > 1) {
    const [first, { site, reducers }] = language;
    throw new UnsupportedReducerError(
      `${reducers[0].name} reduces tokens before layer ${site.layer} of the language model, where they are reduced before layer ${first.site.layer} already; this runner does so before one layer.`,
    );
  }
  return {
    features: { site: atFeatures, reducers: actingAt('features') },
    language: language.at(0) ?? null,
    layers,
  };
}

/** One reducer at one of its sites. */
interface Step {
  readonly reducer: TokenReducer;
  /** Of the language model, counted from the start; `'features'` comes before. */
  readonly layer: number | 'features';
}

function checkOrder(steps: readonly Step[]): void {
  const depth = ({ layer }: Step): number => (layer === 'features' ? 0 : layer);
  const late = steps.findIndex((step, i) => i > 0 && depth(step) < depth(steps[i - 1]));
  if (late < 0) return;
  const [before, after] = [steps[late].reducer.name, steps[late - 1].reducer.name];
  throw new UnsupportedReducerError(
    `${before} acts before ${after} on the way from the pixels to the answer, so it cannot come behind it: put ${before} first.`,
  );
}

/** Where a reducer acts, its layer counted from the start and there. */
function layerInModel(
  { tower, layer: given }: Site,
  { language: count }: TowerLayers,
  { name }: TokenReducer,
): number | 'features' {
  if (given === 'features') return given;
  if (tower === 'vision') {
    throw new UnsupportedReducerError(
      `${name} reduces tokens before layer ${given} of the vision encoder; this runner reduces them on its features and inside the language model.`,
    );
  }
  const layer = given < 0 ? count + given : given;
  if (layer >= 1 && layer < count) return layer;
  throw new UnsupportedReducerError(
    `${name} reduces tokens before layer ${given}; this language model has the layers 0 to ${count - 1}. Choose a layer from 1 to ${count - 1}.`,
  );
}

/** A request whose layer is counted from the start. */
export function requestInModel(request: SignalRequest, layers: TowerLayers): SignalRequest {
  const { layer, signal } = request;
  if (typeof layer !== 'number' || layer >= 0) return request;
  return { ...request, layer: layers[signal.of === 'language-layer' ? 'language' : 'vision'] + layer };
}

/**
 * What the engine has to open and to provide for a chain.
 * @param withMaps whether attention maps come out whole, for a backend of the caller's thread to reduce, in place of what they give
 * @throws UnsupportedReducerError where a reducer asks for what there is not at its site
 */
export function formsRequest(chain: ReductionChain, withMaps: boolean): FormsRequest {
  return { vision: visionRequest(chain, withMaps), language: languageRequest(chain) };
}

function visionRequest(chain: ReductionChain, withMaps: boolean): VisionRequest | null {
  if (chain.features.reducers.length === 0) return null;
  const wanted = signalsAt(chain.features, chain).filter(isOfGraph);
  return { signals: distinct(withMaps ? wanted.map(asMap) : wanted) };
}

function languageRequest(chain: ReductionChain): LanguageRequest | null {
  const { language, layers } = chain;
  if (!language) return null;
  const signals = distinct(signalsAt(language, chain).filter(isOfGraph));
  const rule = loweredRule(language, layers);
  return { layer: language.site.layer, rule, signals: rule ? [] : signals };
}

/** Of one or all layers of a tower: what its graph puts out. */
function isOfGraph({ signal: { of } }: SignalRequest): boolean {
  return of === 'vision-layer' || of === 'vision' || of === 'language-layer';
}

/** The rule of a site's only reducer, where the graph has its score: it is of the layer just before. */
function loweredRule(
  { site, reducers: [{ rule, requires }, ...more] }: NonNullable<ReductionChain['language']>,
  layers: TowerLayers,
): LanguageRequest['rule'] {
  if (!rule || more.length > 0) return null;
  const [score] = requestsOf({ score: requires[rule.score] }, site).map((asked) =>
    requestInModel(asked, layers),
  );
  return score.layer === site.layer - 1 ? { score, budget: rule.budget } : null;
}

/** What the reducers of a site read. @throws UnsupportedReducerError on what there is not there */
function signalsAt({ site, reducers }: SiteReducers, { layers }: ReductionChain): SignalRequest[] {
  return reducers.flatMap(({ name, requires }) =>
    requestsOf(requires, site).map((asked) => {
      const request = requestInModel(asked, layers);
      if (isThere(request, site)) return request;
      throw new UnsupportedReducerError(`${name} asks for ${signalId(request)}. ${whatThereIs(site)}`);
    }),
  );
}

function isThere({ signal, layer }: SignalRequest, site: Site): boolean {
  switch (signal.of) {
    case 'prompt':
      return true;
    case 'features':
    case 'vision':
    case 'vision-layer':
      return site.layer === 'features';
    case 'language-layer':
      return site.layer !== 'features' && typeof layer === 'number' && layer >= 0 && layer < site.layer;
  }
}

function whatThereIs(site: Site): string {
  if (site.layer === 'features') {
    return 'On the features of the encoder it can read signals of the encoder, of its features, and of the text of the prompt; the language model comes later.';
  }
  return `Before layer ${site.layer} of the language model it can read signals of its layers 0 to ${site.layer - 1}, and of the text of the prompt.`;
}

/** The map of the layer, where it gives the signal exactly. */
function asMap(request: SignalRequest): SignalRequest {
  return mapGivesExactly(request) ? attentionMap({ layer: request.layer ?? 'features' }) : request;
}

function distinct(requests: readonly SignalRequest[]): SignalRequest[] {
  return [...new Map(requests.map((request) => [signalId(request), request])).values()];
}

/** Above this share of the layers before the cut, what the later ones save is not much. */
const LATE = 0.5;

/** What the user should know of a chain inside the language model, one sentence each. */
export function chainWarnings({ language, layers }: ReductionChain): string[] {
  if (!language || language.site.layer / layers.language <= LATE) return [];
  const { site, reducers } = language;
  return [
    `${reducers[0].name} reduces tokens before layer ${site.layer} of ${layers.language}: most layers still see all of them. A smaller layer saves more.`,
  ];
}
