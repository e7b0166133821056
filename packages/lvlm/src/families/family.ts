/**
 * What makes a model family: how its pictures become crops, and its crops' tokens what the language model
 * reads.
 */
import type { Grid, ReductionPlan } from '@foveate/core';
import type { Json } from '../bundle/json.js';
import type {
  DecodedImage,
  PixelValues,
  Region,
  Preprocessing,
  PreprocessorFile,
  Resize,
  Size,
} from '../bundle/preprocessing.js';

/** What becomes of the tokens that end the rows of a picture, once visual tokens are left out. */
export type Newlines = 'drop' | 'keep' | 'nonempty';

/** What a caller decides about a family. */
export interface FamilyOptions {
  readonly newlines: Newlines;
}

/** The JSON objects of a bundle. */
export interface BundleJson {
  /** For messages. */
  readonly directory: string;
  readonly config: Json;
  readonly preprocessor: PreprocessorFile;
  readonly processor: Json;
}

/** What a family knows of one bundle: plain data, because it crosses to the engine's thread. */
export interface FamilySettings {
  /** `model_type` of config.json. */
  readonly modelType: string;
  readonly imageTokenId: number;
  /** Pixels of a side of a patch. */
  readonly patchSize: number;
  /** Patches that the connector folds into one token: 1 where each patch is one. */
  readonly patchesPerToken: number;
  /** Layers that the vision encoder was trained with; exports may lack the last ones. */
  readonly visionLayers: number;
  readonly preprocessing: Preprocessing;
}

/** One family. Its functions run in both threads and import nothing of Node. */
export interface Family<Settings extends FamilySettings = FamilySettings> {
  /** Values of `model_type` in config.json. */
  readonly modelTypes: readonly string[];
  /** @throws BundleError naming the file and what is wrong with it */
  readSettings(files: BundleJson, options: FamilyOptions): Settings;
  /**
   * The pixels of an image, one a crop.
   * @param images how many the prompt has
   * @throws ImageError, PlatformError
   */
  preprocess(image: DecodedImage, settings: Settings, resize: Resize, images: number): Promise<PixelValues[]>;
  /** Whether an image that comes alone is read in another way than one of several. Absent: it is not. */
  readonly readsOneOtherwise?: true;
  /**
   * What the encoder reads of one crop, by the name of the input. It takes what it has inputs for.
   */
  feeds(pixels: PixelValues, settings: Settings): EncoderFeeds;
  /**
   * What stands in the prompt for an image: text, with an image token for each crop. Absent: one image token
   * stands for all of it.
   */
  written?(size: Size, imageToken: string, settings: Settings): string;
  /**
   * How the tokens of each of an image's crops lie. Pure arithmetic on sizes.
   * @throws BundleError where the encoder gives other tokens
   */
  arrange(size: Size, crops: readonly ArrangedCrop[], settings: Settings): CropArrangement[];
  /**
   * What the language model reads of an image, row after row. Pure arithmetic on places.
   * @throws BundleError where config.json lacks a row of the family's own
   */
  layOut(image: ReducedImage, settings: Settings): ImageRow[];
  /**
   * Where the rows of an image stand, for a language model with three-dimensional positions (M-RoPE). Absent:
   * one behind the other.
   */
  positions?(image: ReducedImage, settings: Settings): ImagePositions;
  /** The sizes in pixels of what the encoder is given, or a plausible one where they depend on the image. */
  probeSize(settings: Settings): Size;
}

/** Inputs of the encoder. */
export type EncoderFeeds = Readonly<Record<string, EncoderFeed>>;

/** Row-major; booleans are bytes. */
type EncoderFeed = { readonly dims: readonly number[] } & (
  | { readonly type: 'float32'; readonly data: Float32Array }
  | { readonly type: 'bool'; readonly data: Uint8Array }
  | { readonly type: 'int64'; readonly data: BigInt64Array }
);

/** What is known of a crop before its tokens are arranged. */
export interface ArrangedCrop {
  /** Of the encoder's input, in pixels. */
  readonly pixels: Size;
  /** Tokens out of the encoder. */
  readonly tokens: number;
}

/** Tokens of one crop. */
export interface CropArrangement {
  /**
   * Those of the encoder's tokens that stand for the picture, ascending; null: all of them. The others, which
   * stand for padding, are left out.
   */
  readonly left: Uint32Array | null;
  /** The grid of those left, row-major; null where they do not fill one. */
  readonly grid: Grid | null;
  /**
   * From the encoder's patches, as its signals have them, to its tokens; null where each patch is one.
   */
  readonly fold: ReductionPlan | null;
  /** What the grid covers of the upright image. */
  readonly region: Region;
}

/** An image behind its reducers. */
export interface ReducedImage {
  /** Of the upright image, in pixels. */
  readonly size: Size;
  /**
   * Of each crop's rows, in the order that its reducers gave them, the places among its tokens that were left
   * of the encoder's.
   */
  readonly crops: readonly (readonly number[])[];
  /** Token ids of what is written in the prompt for the image, an image token for each crop. */
  readonly written: readonly number[];
  /** Whether there is any row that is not just the token of its place, or a place without its row. */
  readonly reduced: boolean;
}

/** A row that the language model reads: of a crop, of the family's own, or a token of text. */
export type ImageRow =
  | { readonly crop: number; readonly token: number }
  | ResampledRow
  | { readonly embedding: readonly number[] }
  | { readonly tokenId: number };

/** A row that a family resamples from several tokens. */
export interface ResampledRow {
  /** The crop that it counts for. */
  readonly crop: number;
  /** Its number among the rows that count for that crop. */
  readonly token: number;
  /** Weights that sum to 1. */
  readonly mix: readonly { readonly crop: number; readonly token: number; readonly weight: number }[];
}

/** Three-dimensional positions, counted from where the image begins. */
export interface ImagePositions {
  /** Of each row its frame, line and column. */
  readonly rows: readonly (readonly [number, number, number])[];
  /** Where what follows the image begins. */
  readonly end: number;
}
