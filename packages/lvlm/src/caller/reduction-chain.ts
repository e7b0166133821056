/** The reducers of a call in the order of the data: which acts where, and what the engine has to provide for it. Runs in the caller's thread. */
import {
  attentionMap,
  mapGivesExactly,
  requestsOf,
  signalId,
  siteId,
  type SignalRequest,
  type Site,
  type TokenReducer,
} from '@foveate/core';
import type { FormsRequest, InnerSite, LanguageRequest, Route, VisionRequest } from '../engine/api.js';
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
  /** Inside the encoder, from the pixels on. */
  readonly vision: readonly SiteReducers[];
  /** On its features. */
  readonly features: readonly TokenReducer[];
  /** Inside the language model, from its first layer on. */
  readonly language: readonly SiteReducers[];
  readonly layers: TowerLayers;
}

/**
 * Puts reducers at their sites.
 * @throws UnsupportedReducerError where there is no such layer, or a reducer stands behind one that acts later
 */
export function reductionChain(reducers: readonly TokenReducer[], layers: TowerLayers): ReductionChain {
  const steps = reducers.flatMap((reducer) =>
    reducer.at.map((site) => ({ reducer, site: siteInModel(site, layers, reducer) })),
  );
  checkOrder(reducers, layers);
  const bySite = new Map<string, { site: Site; reducers: TokenReducer[] }>();
  for (const { reducer, site } of steps.sort((a, b) => depth(a.site) - depth(b.site))) {
    const group = bySite.get(siteId(site)) ?? { site, reducers: [] };
    group.reducers.push(reducer);
    bySite.set(siteId(site), group);
  }
  const groups = [...bySite.values()];
  const inside = (tower: Site['tower']): SiteReducers[] =>
    groups.filter(({ site }) => site.tower === tower && site.layer !== 'features');
  return {
    vision: inside('vision'),
    features: groups.find(({ site }) => site.layer === 'features')?.reducers ?? [],
    language: inside('language'),
    layers,
  };
}

/** Where a site lies on the way of the data. */
function depth({ tower, layer }: Site): number {
  if (layer === 'features') return 1e6;
  return tower === 'vision' ? layer : 1e6 + layer;
}

function checkOrder(reducers: readonly TokenReducer[], layers: TowerLayers): void {
  const firstOf = (reducer: TokenReducer): number =>
    Math.min(...reducer.at.map((site) => depth(siteInModel(site, layers, reducer))));
  const late = reducers.findIndex((reducer, i) => i > 0 && firstOf(reducer) < firstOf(reducers[i - 1]));
  if (late < 0) return;
  const [before, after] = [reducers[late].name, reducers[late - 1].name];
  throw new UnsupportedReducerError(
    `${before} acts before ${after} on the way from the pixels to the answer, so it cannot come behind it: put ${before} first.`,
  );
}

/** A site whose layer is counted from the start, and is there. */
function siteInModel(site: Site, layers: TowerLayers, { name }: TokenReducer): Site {
  if (site.layer === 'features') return site;
  const count = layers[site.tower];
  const layer = site.layer < 0 ? count + site.layer : site.layer;
  if (layer >= 1 && layer < count) return { ...site, layer };
  const tower = site.tower === 'vision' ? 'vision encoder' : 'language model';
  throw new UnsupportedReducerError(
    `${name} reduces tokens before layer ${site.layer}; this ${tower} has the layers 0 to ${count - 1}. Choose a layer from 1 to ${count - 1}.`,
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
  const { vision, features } = chain;
  if (vision.length === 0 && features.length === 0) return null;
  const atFeatures: Site = { tower: 'vision', layer: 'features' };
  const inner = vision.flatMap((group) => signalsAt(group, chain));
  const outer = signalsAt({ site: atFeatures, reducers: features }, chain);
  const { sites, route } = innerSites(vision, chain);
  const wanted = [...(route === 'split' ? inner : []), ...outer].filter(({ signal }) => isOfGraph(signal.of));
  const provided = withMaps ? wanted.map(asMap) : wanted;
  return { sites, route, signals: distinct(provided), atFeatures: features.length > 0 };
}

function languageRequest(chain: ReductionChain): LanguageRequest | null {
  if (chain.language.length === 0) return null;
  const { sites, route } = innerSites(chain.language, chain);
  const wanted = chain.language.flatMap((group) => signalsAt(group, chain));
  return {
    sites,
    route,
    signals: route === 'graph' ? [] : distinct(wanted.filter(({ signal }) => isOfGraph(signal.of))),
  };
}

/** Of one or all layers of a tower: what its graph puts out. */
function isOfGraph(of: SignalRequest['signal']['of']): boolean {
  return of === 'vision-layer' || of === 'vision' || of === 'language-layer';
}

/** The graph decides where the rules of all sites can be lowered into it; otherwise nothing is. */
function innerSites(
  groups: readonly SiteReducers[],
  { layers }: ReductionChain,
): { sites: InnerSite[]; route: Route } {
  const sites = groups.map(({ site, reducers }): InnerSite => {
    const [{ rule, requires, name }, ...more] = reducers;
    const layer = site.layer as number; // of no group inside a tower is it 'features'
    const score = rule && requestsOf({ score: requires[rule.score] }, site)[0];
    const scored = score && requestInModel(score, layers);
    const lowered = more.length === 0 && scored?.layer === layer - 1 && scored.signal.shape.join() === 'N';
    return {
      layer,
      reducer: name,
      rule: rule && scored && lowered ? { score: scored, budget: rule.budget } : null,
    };
  });
  return { sites, route: sites.every(({ rule }) => rule) ? 'graph' : 'split' };
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
      return site.layer === 'features';
    case 'vision-layer':
      return site.layer === 'features' || (site.tower === 'vision' && isBelow(layer, site.layer));
    case 'language-layer':
      return site.tower === 'language' && isBelow(layer, site.layer);
  }
}

function isBelow(layer: SignalRequest['layer'], limit: number): boolean {
  return typeof layer === 'number' && layer >= 0 && layer < limit;
}

function whatThereIs(site: Site): string {
  if (site.layer === 'features') {
    return 'On the features of the encoder it can read signals of the encoder, of its features, and of the text of the prompt; the language model comes later.';
  }
  const tower = site.tower === 'vision' ? 'vision encoder' : 'language model';
  return `Before layer ${site.layer} of the ${tower} it can read signals of its layers 0 to ${site.layer - 1}, and of the text of the prompt.`;
}

/** The map of the layer, where it gives the signal exactly. */
function asMap(request: SignalRequest): SignalRequest {
  return mapGivesExactly(request) ? attentionMap({ layer: request.layer ?? 'features' }) : request;
}

function distinct(requests: readonly SignalRequest[]): SignalRequest[] {
  return [...new Map(requests.map((request) => [signalId(request), request])).values()];
}

/** Above this share of the layers before the first cut, what the later ones save is not much. */
const LATE = 0.5;

/** What the user should know of a chain inside the language model, one sentence each. */
export function chainWarnings({ language, layers }: ReductionChain): string[] {
  return language.slice(0, 1).flatMap(({ site, reducers: [{ name }] }) => {
    if ((site.layer as number) / layers.language <= LATE) return [];
    return [
      `${name} reduces tokens before layer ${site.layer} of ${layers.language}: most layers still see all of them. A smaller layer saves more.`,
    ];
  });
}
