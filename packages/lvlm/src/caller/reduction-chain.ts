/**
 * The reducers of a call in the order of the data: which acts where, and what the engine has to provide for
 * it. Runs in the caller's thread.
 */
import {
  atFeatures,
  attentionMap,
  beforeLanguageLayer,
  beforeVisionLayer,
  insideVisionLayers,
  keys,
  features,
  layerInTower,
  mapGivesExactly,
  projectedFeatures,
  requestInModel,
  requestsOf,
  signalId,
  SignalUnavailableError,
  siteId,
  UnsupportedReducerError,
  type DeclaredSite,
  type EveryLayerSite,
  type SignalRequest,
  type Site,
  type TokenReducer,
  type TowerLayers,
} from '@foveate/core';
import { decoderSignals } from '@foveate/onnx-graph';
import type { FormsRequest, InnerSite, Merging, Rule, VisionRequest } from '../engine/api.js';
import { promptSignals, textSignals } from '../engine/prompt-signals.js';

/** The reducers that act at one site, in the order of the chain. */
export interface SiteReducers {
  /** With its layer counted from the start. */
  readonly site: Site;
  readonly reducers: readonly TokenReducer[];
}

/** The reducers that act before one layer of a tower, in the order of the chain. */
export interface LayerReducers extends SiteReducers {
  readonly site: Site & { readonly layer: number };
}

/** The reducers that act inside every layer of the vision encoder, in the order of the chain. */
export interface EveryLayerReducers {
  readonly site: EveryLayerSite;
  readonly reducers: readonly TokenReducer[];
}

/** A chain of reducers in the order of the data. */
export interface ReductionChain {
  /** Before layers of the vision encoder, ascending; none where something acts inside every layer. */
  readonly encoder: readonly LayerReducers[];
  /** Inside every layer of the vision encoder; without reducers where none acts there. */
  readonly merging: EveryLayerReducers;
  /** On the encoder's features; without reducers where none acts there. */
  readonly features: SiteReducers;
  /** Inside the language model, by ascending layer. */
  readonly language: readonly LayerReducers[];
  readonly layers: TowerLayers;
}

/**
 * Puts reducers at their sites.
 * @throws UnsupportedReducerError where there is no such layer, or a reducer stands behind one that acts
 * later
 */
export function reductionChain(reducers: readonly TokenReducer[], layers: TowerLayers): ReductionChain {
  const steps = reducers.flatMap((reducer) => stepsOf(reducer, layers));
  checkOrder(steps);
  const actingAt = (id: string): TokenReducer[] =>
    steps.filter(({ site }) => siteId(site) === id).map(({ reducer }) => reducer);
  const inside = [...new Map(steps.map(({ site }) => [siteId(site), site])).values()].filter(isInside);
  const acting = inside.map((site) => ({ site, reducers: actingAt(siteId(site)) }));
  return {
    encoder: acting.filter(({ site }) => site.tower === 'vision'),
    merging: { site: insideVisionLayers, reducers: actingAt(siteId(insideVisionLayers)) },
    features: { site: atFeatures, reducers: actingAt(siteId(atFeatures)) },
    language: acting.filter(({ site }) => site.tower === 'language'),
    layers,
  };
}

function isInside(site: ChainSite): site is LayerReducers['site'] {
  return site.layer !== 'features' && site.layer !== 'every';
}

/** Where a step acts, its layer counted from the start. */
export type ChainSite = Site | EveryLayerSite;

/** One reducer at one of its sites. */
interface Step {
  readonly reducer: TokenReducer;
  readonly site: ChainSite;
}

function checkOrder(steps: readonly Step[]): void {
  refuseInside(steps);
  const isLater = ({ site: a }: Step, { site: b }: Step): boolean =>
    a.tower === b.tower ? depth(a) > depth(b) : a.tower === 'language';
  const late = steps.findIndex((step, i) => i > 0 && isLater(steps[i - 1], step));
  if (late < 0) return;
  const [before, after] = [steps[late].reducer.name, steps[late - 1].reducer.name];
  throw new UnsupportedReducerError(
    `${before} acts before ${after} on the way from the pixels to the answer, so it cannot come behind it: put ${before} first.`,
  );
}

/** What acts inside every layer acts before and behind what acts before one of them. */
function refuseInside(steps: readonly Step[]): void {
  const inside = steps.filter(({ site }) => site.tower === 'vision' && site.layer !== 'features');
  const every = inside.find(({ site }) => site.layer === 'every');
  const other = inside.find(({ site }) => site.layer !== 'every');
  if (!every || !other) return;
  throw new UnsupportedReducerError(
    `${every.reducer.name} acts inside every layer of the vision encoder, ${other.reducer.name} before layer ${String(other.site.layer)}: one of them can act inside the encoder. Leave out the other, or use a method that acts on the features in its place.`,
  );
}

/** How far into its tower a site is. */
function depth({ layer }: ChainSite): number {
  return layer === 'features' ? Infinity : layer === 'every' ? 0 : layer;
}

/** A reducer taken apart: one a site, which knows the stage that it is. */
function stepsOf(reducer: TokenReducer, layers: TowerLayers): Step[] {
  let before: ChainSite | null = null;
  return reducer.at.map((declared, stage): Step => {
    const site = siteInModel(declared, layers, reducer, before);
    before = site;
    const plan: TokenReducer['plan'] = (tokens, there) => reducer.plan(tokens, there, stage);
    return { site, reducer: { ...reducer, at: [site], plan } };
  });
}

/**
 * Where a reducer acts, its layer counted from the start and there.
 * @param before its site before this one: layers that scale do not meet
 */
function siteInModel(
  site: DeclaredSite,
  layers: TowerLayers,
  { name }: TokenReducer,
  before: ChainSite | null,
): ChainSite {
  const { tower, layer: given } = site;
  if (given === 'features') return atFeatures;
  if (given === 'every') return insideVisionLayers;
  const count = layers[tower];
  const first = before?.tower === tower && typeof before.layer === 'number' ? before.layer + 1 : 1;
  const scaled = layerInTower(given, count, tower);
  const layer = typeof given === 'object' ? Math.max(first, scaled) : scaled;
  if (layer >= 1 && layer < count)
    return tower === 'vision' ? beforeVisionLayer(layer) : beforeLanguageLayer(layer);
  const model = tower === 'vision' ? 'vision encoder' : 'language model';
  throw new UnsupportedReducerError(
    `${name} reduces tokens before layer ${typeof given === 'object' ? layer : given}; this ${model} has the layers 0 to ${count - 1}. Choose a layer from 1 to ${count - 1}.`,
  );
}

/**
 * What the engine has to open and to provide for a chain.
 * @param withMaps whether attention maps come out whole, for a backend of the caller's thread to reduce, in
 * place of what they give; never where tokens are merged inside every layer, which maps do not follow
 * @throws UnsupportedReducerError where a reducer asks for what there is not at its site;
 * SignalUnavailableError where no bundle has it
 */
export function formsRequest(chain: ReductionChain, withMaps: boolean): FormsRequest {
  return {
    vision: visionRequest(chain, withMaps),
    language: innerSites(chain.language, chain.layers),
    calibration: calibrationOf(chain),
  };
}

/**
 * How attention is calibrated: as the last reducer on the features that says so has it.
 * @throws UnsupportedReducerError where tokens are reduced inside the language model too
 */
function calibrationOf({ features, language }: ReductionChain): FormsRequest['calibration'] {
  const calibrated = features.reducers.findLast(({ calibration }) => calibration);
  if (calibrated?.calibration && language.length > 0) {
    throw new UnsupportedReducerError(
      `${calibrated.name} calibrates the attention of the whole language model, in which ${language[0].reducers[0].name} reduces tokens: use one or the other.`,
    );
  }
  return calibrated?.calibration ?? null;
}

function visionRequest(
  { encoder, merging, features, layers }: ReductionChain,
  withMaps: boolean,
): VisionRequest | null {
  if (encoder.length + merging.reducers.length + features.reducers.length === 0) return null;
  const isMerged = merging.reducers.length > 0;
  const wanted = signalsAt(features, isMerged ? merging : encoder.at(-1), layers).filter(isOfGraph);
  return {
    sites: innerSites(encoder, layers),
    merging: isMerged ? mergingOf(merging) : null,
    signals: distinct(withMaps && !isMerged ? wanted.map(asMap) : wanted),
  };
}

/** What the engine does at the sites inside a tower: the graph decides where it can at all of them. */
function innerSites(sites: readonly LayerReducers[], layers: TowerLayers): InnerSite[] {
  const inner = sites.map((one, i) => ({
    layer: one.site.layer,
    rule: loweredRule(one, layers),
    signals: distinct(signalsAt(one, i > 0 ? sites[i - 1] : undefined, layers).filter(isOfGraph)),
    positions: one.reducers.some(isRenumbering) ? ('renumbered' as const) : ('original' as const),
  }));
  const inGraph = inner.every(({ rule }) => rule !== null);
  return inner.map((site) => (inGraph ? { ...site, signals: [] } : { ...site, rule: null }));
}

/** What the engine does inside every layer: the graph merges where it can. */
function mergingOf({ reducers }: EveryLayerReducers): Merging {
  const [{ rule, requires }, ...more] = reducers;
  const own = reducers.flatMap((reducer) => signalsInside(reducer));
  const metric = rule?.rule === 'merge-bipartite' && requires[rule.metric];
  if (more.length > 0 || !metric || !('similarityBy' in metric))
    return { amount: null, signals: distinct(own) };
  const isKeys = signalId(metric.similarityBy) === signalId(keys({ layer: 'before', heads: 'mean' }));
  return isKeys ? { amount: rule.amount, signals: [] } : { amount: null, signals: distinct(own) };
}

/**
 * What a reducer reads of each layer that it acts inside of; of the prompt's text it may read too.
 * @throws UnsupportedReducerError on a signal of another layer, or of what comes later
 */
function signalsInside({ name, requires }: TokenReducer): SignalRequest[] {
  const asked = Object.values(requires).map((one) => ('similarityBy' in one ? one.similarityBy : one));
  return asked.flatMap(({ layer, ...request }) => {
    if (request.signal.of === 'prompt') return [];
    if (layer === 'before') return [request];
    throw new UnsupportedReducerError(
      `${name} asks for ${signalId({ ...request, ...(layer !== undefined && { layer }) })}. Inside a layer of the vision encoder it can read signals of that layer ('before'), and of the text of the prompt.`,
    );
  });
}

function isRenumbering({ positions }: TokenReducer): boolean {
  return positions === 'renumbered';
}

/** Of one or all layers of a tower: what its graph puts out. */
function isOfGraph({ signal: { of } }: SignalRequest): boolean {
  return of === 'vision-layer' || of === 'vision' || of === 'language-layer';
}

/** The rule of a site's only reducer, where the graph has its score: it is of the layer just before. */
function loweredRule(
  { site, reducers: [reducer, ...more] }: LayerReducers,
  layers: TowerLayers,
): Rule | null {
  const { rule, requires } = reducer;
  if (rule?.rule !== 'top-k' || more.length > 0 || isRenumbering(reducer)) return null;
  const [score] = requestsOf({ score: requires[rule.score] }, site).map((asked) =>
    requestInModel(asked, layers),
  );
  return score.layer === site.layer - 1 ? { score, budget: rule.budget } : null;
}

/** What the engine gives that is of no graph's layers. */
const besideLayers: readonly string[] = [features(), projectedFeatures(), ...promptSignals].map(signalId);

/**
 * What the reducers of a site read.
 * @param before the site before it in the tower, behind which there are fewer tokens
 * @throws UnsupportedReducerError on what there is not there; SignalUnavailableError on what no bundle has
 */
function signalsAt(
  { site, reducers }: SiteReducers,
  before: SiteReducers | EveryLayerReducers | undefined,
  layers: TowerLayers,
): SignalRequest[] {
  const first = before?.site.tower === site.tower ? firstBehind(before.site) : 0;
  return reducers.flatMap(({ name, requires }) =>
    requestsOf(requires, site).map((asked) => {
      const request = requestInModel(asked, layers);
      if (!isOfGraph(request) && !besideLayers.includes(signalId(request))) {
        throw new SignalUnavailableError(
          signalId(request),
          `no part of a model's bundle computes it. Use an option of ${name} that reads ${besideLayers.join(', ')} or a layer; tokens of createTokens may have this signal.`,
        );
      }
      if (isThere(request, site, first)) return request;
      throw new UnsupportedReducerError(`${name} asks for ${signalId(request)}. ${whatThereIs(site, first)}`);
    }),
  );
}

/** The first layer that runs what a site leaves; behind every layer none that has a number. */
function firstBehind({ layer }: ChainSite): number {
  return layer === 'every' ? Infinity : Number(layer);
}

/** @param first the first layer that ran the tokens of the site */
function isThere({ signal, layer }: SignalRequest, site: Site, first: number): boolean {
  const isRun = typeof layer === 'number' && layer >= first && layer < depth(site);
  switch (signal.of) {
    case 'prompt':
      return (site.tower === 'language' ? promptSignals : textSignals).some(
        (one) => one.signal.name === signal.name,
      );
    case 'features':
    case 'vision':
      return site.layer === 'features';
    case 'vision-layer':
      return site.tower === 'vision' && (isRun || (site.layer === 'features' && typeof layer !== 'number'));
    case 'language-layer':
      return site.tower === 'language' && (isRun || (layer === site.layer && isOfNextLayer(signal.name)));
  }
}

/** Whether a decoder's graph gives a signal of the layer behind a cut. */
function isOfNextLayer(name: string): boolean {
  return decoderSignals.get(name)?.ofNextLayer === true;
}

function whatThereIs({ tower, layer }: Site, first: number): string {
  if (layer === 'features') {
    const from =
      first === Infinity
        ? "of the layer that makes the features ('features'), because there are fewer tokens behind each"
        : first > 0
          ? `from layer ${first} on, behind which there are fewer tokens`
          : '';
    return `On the features of the encoder it can read signals of the encoder${from && ` ${from}`}, of its features, and of the text of the prompt; the language model comes later.`;
  }
  const model = tower === 'vision' ? 'vision encoder' : 'language model';
  return `Before layer ${layer} of the ${model} it can read signals of its layers ${first} to ${layer - 1}, and of the text of the prompt.`;
}

/** The map of the layer, where it gives the signal exactly. */
function asMap(request: SignalRequest): SignalRequest {
  return mapGivesExactly(request) ? { ...attentionMap(), layer: request.layer ?? 'features' } : request;
}

function distinct(requests: readonly SignalRequest[]): SignalRequest[] {
  return [...new Map(requests.map((request) => [signalId(request), request])).values()];
}

/** Above this share of the layers before the cut, what the later ones save is not much. */
const LATE = 0.5;

/** What the user should know of a chain inside the language model, one sentence each. */
export function chainWarnings(reducers: readonly TokenReducer[], chain: ReductionChain): string[] {
  return [...reducers.flatMap((reducer) => scalingWarnings(reducer, chain.layers)), ...lateWarnings(chain)];
}

/** That layers were scaled, where this model is shallower than the one that a method was made for. */
function scalingWarnings(reducer: TokenReducer, layers: TowerLayers): string[] {
  const scaled = reducer.at.flatMap(({ tower, layer }) =>
    tower === 'language' && typeof layer === 'object' ? [layer] : [],
  );
  if (scaled.length === 0 || layers.language >= scaled[0].of) return [];
  const here = stepsOf(reducer, layers).map(({ site }) => site.layer);
  return [
    `${reducer.name} was made for ${scaled[0].of} layers, before layers ${scaled.map(({ layer }) => layer).join(', ')}; this language model has ${layers.language}, so it acts before ${here.join(', ')}.`,
  ];
}

function lateWarnings({ language: [first], layers }: ReductionChain): string[] {
  if (!(first as typeof first | undefined) || first.site.layer / layers.language <= LATE) return [];
  const { site, reducers } = first;
  return [
    `${reducers[0].name} reduces tokens before layer ${site.layer} of ${layers.language}: most layers still see all of them. A smaller layer saves more.`,
  ];
}
