/** LLaVA: one crop an image, one token a patch, put in the place of the image token one after the other. */
import { memberOf, wholeNumber } from '../bundle/json.js';
import {
  inputRegion,
  preprocess,
  probeSize,
  readPreprocessing,
  type OwnProcessing,
  type PixelValues,
  type Region,
  type Size,
} from '../bundle/preprocessing.js';
import type {
  ArrangedCrop,
  BundleJson,
  CropArrangement,
  EncoderFeeds,
  Family,
  FamilySettings,
} from './family.js';

/**
 * LLaVA 1.5 and its kin: config.json says `"model_type": "llava"`, or `"llava_qwen2"` where the encoder is
 * FastVLM's, convolutions whose last layers alone attend.
 */
export const llava: Family = {
  modelTypes: ['llava', 'llava_qwen2'],
  readSettings: (files) => readPatchSettings(files),
  preprocess: async (image, { preprocessing }, resize) => [await preprocess(image, preprocessing, resize)],
  arrange: (size, crops, settings) =>
    crops.map((crop) => wholeCrop(crop, inputRegion(size, settings.preprocessing), settings)),
  layOut: ({ crops }) => crops.flatMap((places, crop) => places.map((_, token) => ({ crop, token }))),
  feeds: pictureFeeds,
  probeSize: ({ preprocessing }) => probeSize(preprocessing),
};

/** One picture as it is, [1, 3, height, width]. */
export function pictureFeeds({ data, width, height }: PixelValues): EncoderFeeds {
  return { pixel_values: { type: 'float32', data, dims: [1, 3, height, width] } };
}

/** What every family with an encoder of square patches has. @throws BundleError */
export function readPatchSettings(
  { directory, config, preprocessor, processor }: BundleJson,
  own?: OwnProcessing,
): FamilySettings {
  const vision = memberOf(config, 'vision_config');
  const count = (what: string, value: unknown): number => wholeNumber(directory, what, value);
  return {
    modelType: String(config.model_type),
    imageTokenId: count('config.json: image_token_index', config.image_token_index ?? config.image_token_id),
    // Defaults of CLIPVisionConfig, which configs of older libraries leave out.
    patchSize: count('patch_size', processor.patch_size ?? vision.patch_size ?? 32),
    patchesPerToken: 1,
    visionLayers: count('config.json: vision_config.num_hidden_layers', vision.num_hidden_layers ?? 12),
    preprocessing: readPreprocessing(directory, preprocessor, own),
  };
}

/**
 * All tokens of a crop, and what their grid covers: the encoder's input, less what is no whole patch at its
 * end.
 */
export function wholeCrop(
  { pixels, tokens }: ArrangedCrop,
  region: Region,
  { patchSize }: Pick<FamilySettings, 'patchSize'>,
): CropArrangement {
  const grid = patchGrid(pixels, patchSize);
  return {
    left: null,
    grid: grid.rows * grid.columns === tokens ? grid : null,
    fold: null,
    region: {
      ...region,
      width: (region.width * grid.columns * patchSize) / pixels.width,
      height: (region.height * grid.rows * patchSize) / pixels.height,
    },
  };
}

/** The grid of whole patches. */
function patchGrid({ width, height }: Size, patchSize: number): { rows: number; columns: number } {
  return { rows: Math.floor(height / patchSize), columns: Math.floor(width / patchSize) };
}
