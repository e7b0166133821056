/**
 * Where a method acts: before a layer of the vision encoder or of the language model, or on the encoder's
 * features.
 */
import { InvalidArgumentError } from './errors.js';

/**
 * In the vision encoder, one image or crop at a time. A number: before that layer, so that it and the layers
 * after it see fewer tokens. `'features'`: on the features that enter the language model, before a projector
 * that works token by token, after a connector that merges patches.
 */
export interface VisionSite {
  readonly tower: 'vision';
  /** From 1, or below 0: from the end, -1 the last layer. */
  readonly layer: number | 'features';
  /**
   * Set: not before that layer but inside it, behind the residual connection around its attention and before
   * its MLP; then layers count from 0.
   */
  readonly within?: true;
}

/** Inside every layer of the vision encoder up to the one that makes the features, one after the other. */
export interface EveryLayerSite {
  readonly tower: 'vision';
  readonly layer: 'every';
  readonly within: true;
}

/** Inside the language model: before its layer `layer`, on all visual tokens of a prompt together. */
export interface LanguageSite {
  readonly tower: 'language';
  /** From 1, or below 0: from the end, -1 the last layer. */
  readonly layer: number;
}

/** A place where visual tokens can be reduced. */
export type Site = VisionSite | LanguageSite;

/**
 * Layer `layer` of a tower of `of` layers, for which a method was made; in a tower of another depth the layer
 * as far on the way, see {@link layerInTower}.
 */
export interface ScaledLayer {
  /** Counted from 0. */
  readonly layer: number;
  readonly of: number;
}

/**
 * A site as a method declares it: its layer may be one that scales with the depth of the model, or every one.
 */
export type DeclaredSite =
  Site | EveryLayerSite | { readonly tower: Site['tower']; readonly layer: ScaledLayer };

/**
 * A layer that scales with the depth of the model.
 * @throws InvalidArgumentError unless 0 <= layer < of, whole numbers both
 * @example
 * beforeLanguageLayer(scaledLayer(8, 32)) // before layer 8 of 32 or more, 6 of 24, 2 of 6
 */
export function scaledLayer(layer: number, of: number): ScaledLayer {
  const isLayer = Number.isSafeInteger(of) && Number.isSafeInteger(layer) && layer >= 0 && layer < of;
  if (isLayer) return Object.freeze({ layer, of });
  throw new InvalidArgumentError('layer', { layer, of }, 'a layer from 0 to of - 1, whole numbers both');
}

/**
 * The number of a layer in a tower of `count` layers, counted from the start. One that scales is
 * round(layer * count / of); in a language model of more than `of` layers it stays where it is, as the
 * official codes have it.
 */
export function layerInTower(layer: number | ScaledLayer, count: number, tower: Site['tower']): number {
  if (typeof layer === 'number') return layer < 0 ? count + layer : layer;
  const depth = tower === 'language' ? Math.min(count, layer.of) : count;
  return Math.round((layer.layer * depth) / layer.of);
}

/** The site of methods that work between the encoder and the language model, which most do. */
export const atFeatures: VisionSite = Object.freeze({ tower: 'vision', layer: 'features' });

/**
 * Inside every layer of the vision encoder up to the one that makes the features, between attention and MLP:
 * the method plans for each in turn, from layer 0 on.
 */
export const insideVisionLayers: EveryLayerSite = Object.freeze({
  tower: 'vision',
  layer: 'every',
  within: true,
});

/**
 * Before a layer of the vision encoder.
 * @example
 * beforeVisionLayer(8) // layers 0 to 7 see every patch
 */
export function beforeVisionLayer<Layer extends number | ScaledLayer>(
  layer: Layer,
): { readonly tower: 'vision'; readonly layer: Layer } {
  return { tower: 'vision', layer };
}

/**
 * Before a layer of the language model.
 * @example
 * beforeLanguageLayer(2) // layers 0 and 1 see every visual token
 */
export function beforeLanguageLayer<Layer extends number | ScaledLayer>(
  layer: Layer,
): { readonly tower: 'language'; readonly layer: Layer } {
  return { tower: 'language', layer };
}

/**
 * A site in a few characters, e.g. `vision@features`, `language@2`, `language@8/32`, `vision@within-every`:
 * equal exactly where two sites are declared the same.
 */
export function siteId(site: DeclaredSite): string {
  const { tower, layer } = site;
  const within = 'within' in site ? 'within-' : '';
  return `${tower}@${within}${typeof layer === 'object' ? `${layer.layer}/${layer.of}` : layer}`;
}

/** The site in a model of the depth that the method was made for; of every layer the first. */
export function siteMadeFor(site: DeclaredSite): Site {
  const { layer } = site;
  if (layer === 'every') return { tower: 'vision', layer: 0, within: true };
  return typeof layer === 'object' ? { ...site, layer: layer.layer } : site;
}

/**
 * Checks a site, whoever made it.
 * @param argument its name in the error
 * @throws InvalidArgumentError on another tower, and on layer 0, before which no layer could say what matters
 */
export function checkSite(argument: string, site: DeclaredSite): DeclaredSite {
  const { tower, layer, within } = Object(site) as Partial<Record<'tower' | 'layer' | 'within', unknown>>;
  if (tower === 'vision' && layer === 'every' && within) return site;
  const numbered = typeof layer === 'object' ? isScaled(layer) : Number.isSafeInteger(layer) && layer !== 0;
  const isVision = tower === 'vision' && (numbered || layer === 'features');
  if (!within && (isVision || (tower === 'language' && numbered))) return site;
  throw new InvalidArgumentError(
    argument,
    site,
    "{ tower: 'vision', layer: 'features' }, insideVisionLayers, or { tower: 'vision' | 'language', layer } with a whole number that is not 0, or scaledLayer(layer, of)",
  );
}

/** Whether a layer that scales has one before it. */
function isScaled(value: Partial<ScaledLayer> | null): boolean {
  const { layer, of } = value ?? {};
  return (
    Number.isSafeInteger(layer) &&
    Number.isSafeInteger(of) &&
    Number(layer) >= 1 &&
    Number(layer) < Number(of)
  );
}
