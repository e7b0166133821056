/**
 * The reducers of a call in the order of the data: which acts where, and what the engine has to provide for
 * it. Runs in the caller's thread.
 */
import {
  atFeatures,
  attentionMap,
  beforeLanguageLayer,
  beforeVisionLayer,
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
  type SignalRequest,
  type Site,
  type TokenReducer,
  type TowerLayers,
} from '@foveate/core';
import { decoderSignals } from '@foveate/onnx-graph';
import type { FormsRequest, InnerSite, Rule, VisionRequest } from '../engine/api.js';
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

/** A chain of reducers in the order of the data. */
export interface ReductionChain {
  /** Inside the vision encoder, by ascending layer. */
  readonly encoder: readonly LayerReducers[];
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
    features: { site: atFeatures, reducers: actingAt(siteId(atFeatures)) },
    language: acting.filter(({ site }) => site.tower === 'language'),
    layers,
  };
}

function isInside(site: Site): site is LayerReducers['site'] {
  return site.layer !== 'features';
}

/** One reducer at one of its sites. */
interface Step {
  readonly reducer: TokenReducer;
  /** With its layer counted from the start. */
  readonly site: Site;
}

function checkOrder(steps: readonly Step[]): void {
  const isLater = ({ site: a }: Step, { site: b }: Step): boolean =>
    a.tower === b.tower ? depth(a) > depth(b) : a.tower === 'language';
  const late = steps.findIndex((step, i) => i > 0 && isLater(steps[i - 1], step));
  if (late < 0) return;
  const [before, after] = [steps[late].reducer.name, steps[late - 1].reducer.name];
  throw new UnsupportedReducerError(
    `${before} acts before ${after} on the way from the pixels to the answer, so it cannot come behind it: put ${before} first.`,
  );
}

/** How far into its tower a site is. */
function depth({ layer }: Site): number {
  return layer === 'features' ? Infinity : layer;
}

/** A reducer taken apart: one a site, which knows the stage that it is. */
function stepsOf(reducer: TokenReducer, layers: TowerLayers): Step[] {
  let before: Site | null = null;
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
  before: Site | null,
): Site {
  const { tower, layer: given } = site;
  if (given === 'features') return atFeatures;
  const count = layers[tower];
  const first = before?.tower === tower && before.layer !== 'features' ? before.layer + 1 : 1;
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
 * place of what they give
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
  { encoder, features, layers }: ReductionChain,
  withMaps: boolean,
): VisionRequest | null {
  if (encoder.length + features.reducers.length === 0) return null;
  const wanted = signalsAt(features, encoder.at(-1), layers).filter(isOfGraph);
  return {
    sites: innerSites(encoder, layers),
    signals: distinct(withMaps ? wanted.map(asMap) : wanted),
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
  if (!rule || more.length > 0 || isRenumbering(reducer)) return null;
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
  before: SiteReducers | undefined,
  layers: TowerLayers,
): SignalRequest[] {
  const first = before?.site.tower === site.tower ? Number(before.site.layer) : 0;
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
    const from = first > 0 ? `from layer ${first} on, behind which there are fewer tokens` : '';
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
