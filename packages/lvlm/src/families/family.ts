/** What makes a model family: how its pictures become crops, and its crops' tokens what the language model reads. */
import type { Grid } from '@foveate/core';
import type { Json } from '../bundle/json.js';
import type { DecodedImage, PixelValues, Preprocessing, Resize, Size } from '../bundle/preprocessing.js';
import type { Region } from '../engine/api.js';

/** The JSON objects of a bundle. */
export interface BundleJson {
  /** For messages. */
  readonly directory: string;
  readonly config: Json;
  readonly preprocessor: Json;
  readonly processor: Json;
}

/** What a family knows of one bundle: plain data, because it crosses to the engine's thread. */
export interface FamilySettings {
  /** `model_type` of config.json. */
  readonly modelType: string;
  readonly imageTokenId: number;
  /** Pixels of a side of a patch. */
  readonly patchSize: number;
  /** Layers that the vision encoder was trained with; exports may lack the last ones. */
  readonly visionLayers: number;
  readonly preprocessing: Preprocessing;
}

/** One family. Its functions run in both threads and import nothing of Node. */
export interface Family<Settings extends FamilySettings = FamilySettings> {
  /** Values of `model_type` in config.json. */
  readonly modelTypes: readonly string[];
  /** @throws BundleError naming the file and what is wrong with it */
  readSettings(files: BundleJson): Settings;
  /** The encoder's inputs for an image, one a crop. @throws ImageError, PlatformError */
  preprocess(image: DecodedImage, settings: Settings, resize: Resize): Promise<PixelValues[]>;
  /** Where the tokens of an image's crops stand. Pure arithmetic on sizes. */
  arrange(size: Size, crops: readonly ArrangedCrop[], settings: Settings): ImageArrangement;
  /** The sizes in pixels of what the encoder is given, or a plausible one where they depend on the image. */
  probeSize(settings: Settings): Size;
}

/** What is known of a crop before its tokens are arranged. */
export interface ArrangedCrop {
  /** Of the encoder's input, in pixels. */
  readonly pixels: Size;
  /** Tokens out of the encoder. */
  readonly tokens: number;
}

/** How the tokens of an image lie. */
export interface ImageArrangement {
  readonly crops: readonly CropArrangement[];
  /** Tokens that the model puts between rows; null where it has none. */
  readonly newlines: Newline | null;
}

/** Tokens of one crop. */
export interface CropArrangement {
  /** Which of the encoder's tokens are left, ascending; null: all of them. */
  readonly tokens: readonly number[] | null;
  /** Their grid, row-major; null where they do not fill one. */
  readonly grid: Grid | null;
  /** What the grid covers of the upright image. */
  readonly region: Region;
  /** Of each of the encoder's tokens its place in what the language model reads, in any ascending numbers; null: one crop's own order. */
  readonly places: readonly number[] | null;
}

/** The newlines of an image. */
export interface Newline {
  /** The place where the first row that ends in one begins. */
  readonly from: number;
  /** Where each row ends, in the numbers of `places`, ascending. */
  readonly places: readonly number[];
  /** [D] what stands there. */
  readonly embedding: readonly number[];
}
