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
}

/** Inside the language model: before its layer `layer`, on all visual tokens of a prompt together. */
export interface LanguageSite {
  readonly tower: 'language';
  /** From 1, or below 0: from the end, -1 the last layer. */
  readonly layer: number;
}

/** A place where visual tokens can be reduced. */
export type Site = VisionSite | LanguageSite;

/** The site of methods that work between the encoder and the language model, which most do. */
export const atFeatures: VisionSite = Object.freeze({ tower: 'vision', layer: 'features' });

/**
 * Before a layer of the vision encoder.
 * @example
 * beforeVisionLayer(8) // layers 0 to 7 see every patch
 */
export function beforeVisionLayer(layer: number): VisionSite {
  return { tower: 'vision', layer };
}

/**
 * Before a layer of the language model.
 * @example
 * beforeLanguageLayer(2) // layers 0 and 1 see every visual token
 */
export function beforeLanguageLayer(layer: number): LanguageSite {
  return { tower: 'language', layer };
}

/**
 * A site in a few characters, e.g. `vision@features`, `language@2`: equal exactly where two sites are the
 * same.
 */
export function siteId({ tower, layer }: Site): string {
  return `${tower}@${layer}`;
}

/**
 * Checks a site, whoever made it.
 * @param argument its name in the error
 * @throws InvalidArgumentError on another tower, and on layer 0, before which no layer could say what matters
 */
export function checkSite(argument: string, site: Site): Site {
  const { tower, layer } = Object(site) as Partial<Site>;
  const numbered = Number.isSafeInteger(layer) && layer !== 0;
  if ((tower === 'vision' && (numbered || layer === 'features')) || (tower === 'language' && numbered))
    return site;
  throw new InvalidArgumentError(
    argument,
    site,
    "{ tower: 'vision', layer: 'features' } or { tower: 'vision' | 'language', layer } with a whole number that is not 0",
  );
}
