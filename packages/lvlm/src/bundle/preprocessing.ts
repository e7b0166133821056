/**
 * From decoded pixels to the encoder's input, as the ImageProcessor of transformers.js 4.3 does it, value by
 * value.
 */
import { BundleError, ImageError } from '../platform/errors.js';
import { isJson, shown, type Json } from './json.js';

/** What says how pictures become pixels. */
export interface PreprocessorFile {
  /** For messages. */
  readonly name: string;
  readonly json: Json;
}

/** preprocessor_config.json, checked. */
export interface Preprocessing {
  /** Absent: images keep their size. */
  readonly resize?: ResizeRule & { readonly interpolation: Interpolation };
  /** Absent: nothing is cropped. */
  readonly crop?: Size;
  /** [3][256] What a byte becomes, by channel: rescaled and normalised. */
  readonly levels: readonly Float32Array[];
}

/** RGB bytes, row-major. */
export interface DecodedImage {
  readonly data: Uint8Array;
  readonly width: number;
  readonly height: number;
}

/** Resamples an image as sharp does; the platform's. */
export type Resize = (image: DecodedImage, size: Size, interpolation: Interpolation) => Promise<DecodedImage>;

/** A rectangle in an image: shares of its width and height, from its upper left corner. */
export interface Region {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** In pixels. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

/** The encoder's input for one image. */
export interface PixelValues {
  /** [3, height, width] */
  readonly data: Float32Array<ArrayBuffer>;
  readonly width: number;
  readonly height: number;
}

type ResizeRule = { readonly size: Size } | { readonly shortestEdge?: number; readonly longestEdge?: number };
/** How pixels are resampled. */
export type Interpolation = 'nearest' | 'bilinear' | 'bicubic' | 'lanczos';

/** PIL's numbers; transformers.js takes 4 (box) and 5 (hamming) as bilinear. */
const INTERPOLATIONS: readonly Interpolation[] = [
  'nearest',
  'lanczos',
  'bilinear',
  'bicubic',
  'bilinear',
  'bilinear',
];
/** Where nothing of {@link UNKNOWN_STEPS} is asked for, all of them do the same. */
const PROCESSORS = [
  'CLIPImageProcessor',
  'CLIPFeatureExtractor',
  'LlavaImageProcessor',
  'SiglipImageProcessor',
];
/** Another implementation of the same processor, in the Python library. */
const IMPLEMENTATION = /(Fast|Pil)$/;
/**
 * Steps of other processors: a bundle that asks for one is refused, rather than answered from a picture its
 * model never saw.
 */
const UNKNOWN_STEPS = [
  'do_pad',
  'do_thumbnail',
  'do_crop_margin',
  'do_flip_channel_order',
  'size_divisibility',
  'size_divisor',
  'keep_aspect_ratio',
  'ensure_multiple_of',
  'do_image_splitting',
];
const MAX_SIDE = 16_384;
/**
 * Of a resized image; a strip of one pixel's height can grow without bound. About two seconds of resampling.
 */
const MAX_RESIZED_PIXELS = 2 ** 24;

/** What a family does by itself, before what is done here. */
export interface OwnProcessing {
  /** Names of its image processor. */
  readonly processors: readonly string[];
  /** Of the steps that are not known here. */
  readonly steps: readonly string[];
}

/** @throws BundleError where the file asks for what is not known here */
export function readPreprocessing(
  directory: string,
  { name: file, json: config }: PreprocessorFile,
  { processors, steps }: OwnProcessing = { processors: PROCESSORS, steps: [] },
): Preprocessing {
  const refuse = (problem: string): never => {
    throw new BundleError(`${directory}: ${file} ${problem}.`);
  };
  const type = config.image_processor_type ?? config.feature_extractor_type;
  if (
    type !== undefined &&
    !(typeof type === 'string' && processors.includes(type.replace(IMPLEMENTATION, '')))
  )
    refuse(`names the processor ${shown(type)}; this runner knows ${processors.join(', ')}`);
  const unknown = UNKNOWN_STEPS.find((step) => config[step] && !steps.includes(step));
  if (unknown) refuse(`asks for ${unknown}, which this runner does not do`);

  const side = (value: unknown, what: string): number =>
    typeof value === 'number' && Number.isInteger(value) && value > 0 && value <= MAX_SIDE
      ? value
      : refuse(`has ${what} ${shown(value)}; it must be a whole number up to ${MAX_SIDE}`);
  const size = (value: unknown, what: string): Size => {
    if (!isJson(value)) return { width: side(value, what), height: side(value, what) };
    return { width: side(value.width, `${what}.width`), height: side(value.height, `${what}.height`) };
  };
  const resizeRule = (value: unknown): ResizeRule => {
    if (!isJson(value))
      return {
        shortestEdge: side(value, 'size'),
        longestEdge: side(config.max_size ?? value, 'max_size'),
      };
    if (value.shortest_edge === undefined && value.longest_edge === undefined)
      return { size: size(value, 'size') };
    return {
      ...(value.shortest_edge !== undefined && {
        shortestEdge: side(value.shortest_edge, 'size.shortest_edge'),
      }),
      ...(value.longest_edge !== undefined && {
        longestEdge: side(value.longest_edge, 'size.longest_edge'),
      }),
    };
  };
  const resample = config.resample ?? 2;
  const interpolation =
    (Number.isInteger(resample) ? INTERPOLATIONS[resample as number] : undefined) ??
    refuse(`has resample ${shown(resample)}; it must be 0 to 5`);
  const wanted = config.size ?? config.image_size;
  return {
    ...((config.do_resize ?? wanted !== undefined) === true && {
      resize: { ...resizeRule(wanted), interpolation },
    }),
    ...(config.do_center_crop === true && { crop: size(config.crop_size, 'crop_size') }),
    levels: levels(config, refuse),
  };
}

/**
 * Each byte's value after rescaling and normalising, rounded to float32 after both, as transformers.js does.
 */
function levels(config: Json, refuse: (problem: string) => never): Float32Array[] {
  const perChannel = (name: string, short: string): number[] => {
    const value = config[name] ?? config[short];
    const list: unknown[] = Array.isArray(value) ? value : [value, value, value];
    return list.length === 3 && list.every((number) => Number.isFinite(number))
      ? (list as number[])
      : refuse(`has ${name} ${shown(value)}; it must be one number or three`);
  };
  const factor = config.do_rescale === false ? 1 : (config.rescale_factor ?? 1 / 255);
  const normalize = config.do_normalize === true;
  const mean = normalize ? perChannel('image_mean', 'mean') : [0, 0, 0];
  const deviation = normalize ? perChannel('image_std', 'std') : [1, 1, 1];
  if (typeof factor !== 'number' || !Number.isFinite(factor))
    return refuse(`has rescale_factor ${shown(factor)}; it must be a number`);
  if (deviation.includes(0)) refuse('has an image_std of 0');
  return mean.map((m, channel) => {
    const rescaled = Float32Array.from({ length: 256 }, (_, byte) => factor * byte);
    return rescaled.map((value) => (value - m) / deviation[channel]);
  });
}

/**
 * Resizes, crops around the centre (black where the image is smaller), rescales and normalises.
 * @throws ImageError, PlatformError
 */
export async function preprocess(
  image: DecodedImage,
  { resize: rule, crop, levels }: Preprocessing,
  resize: Resize,
): Promise<PixelValues> {
  const source = rule ? await resize(image, targetSize(image, rule), rule.interpolation) : image;
  const { width, height } = crop ?? source;
  const left = cropStart(source.width, width);
  const top = cropStart(source.height, height);
  const data = new Float32Array(3 * height * width); // [3, height, width]
  for (let channel = 0; channel < 3; channel++) {
    const level = levels[channel];
    for (let y = 0; y < height; y++) {
      const inside = y + top >= 0 && y + top < source.height;
      let to = (channel * height + y) * width;
      let from = ((y + top) * source.width + left) * 3 + channel;
      for (let x = left; x < left + width; x++, to++, from += 3) {
        data[to] = level[inside && x >= 0 && x < source.width ? source.data[from] : 0];
      }
    }
  }
  return { data, width, height };
}

/**
 * Where the encoder's input lies in the upright image. Outside of [0, 1] where the crop is larger than the
 * image.
 */
export function inputRegion(image: Size, { resize, crop }: Preprocessing): Region {
  const source = resize ? targetSize(image, resize) : image;
  const { width, height } = crop ?? source;
  return {
    left: cropStart(source.width, width) / source.width,
    top: cropStart(source.height, height) / source.height,
    width: width / source.width,
    height: height / source.height,
  };
}

/** The size of the encoder's input, or a plausible one where that depends on the image. */
export function probeSize({ crop, resize }: Preprocessing): Size {
  if (crop) return crop;
  if (resize && 'size' in resize) return resize.size;
  const side = resize?.shortestEdge ?? resize?.longestEdge ?? 224;
  return { width: side, height: side };
}

/** Index of the first source row or column in a centred window; negative where the window is larger. */
function cropStart(source: number, window: number): number {
  const margin = (source - window) / 2;
  return margin >= 0 ? Math.floor(margin) : -Math.floor(-margin);
}

function targetSize({ width, height }: Size, rule: ResizeRule): Size {
  if ('size' in rule) return rule.size;
  const { shortestEdge, longestEdge } = rule;
  const grow = shortestEdge === undefined ? 1 : shortestEdge / Math.min(width, height);
  const limit = longestEdge === undefined ? 1 : longestEdge / (Math.max(width, height) * grow);
  // Two decimals before rounding down, as transformers.js does.
  const scale = (side: number): number => Math.max(1, Math.floor(Number((side * grow * limit).toFixed(2))));
  const target = { width: scale(width), height: scale(height) };
  if (target.width * target.height > MAX_RESIZED_PIXELS) {
    throw new ImageError(
      `An image of ${width} x ${height} pixels would be resized to ${target.width} x ${target.height}: crop it to a less extreme shape.`,
    );
  }
  return target;
}
