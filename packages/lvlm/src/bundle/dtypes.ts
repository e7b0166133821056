/** Which variant of each ONNX file is read: by the names that transformers.js has for them. */
import { InvalidArgumentError } from '@foveate/core';
import { BundleError } from '../platform/errors.js';
import { isJson, memberOf, shown, type Json } from './json.js';

/** The graphs of a bundle, by the name of their file. */
export type GraphName = 'vision_encoder' | 'embed_tokens' | 'decoder_model_merged';

/** Every {@link GraphName}. */
export const graphNames: readonly GraphName[] = ['vision_encoder', 'embed_tokens', 'decoder_model_merged'];

/** What the file names of the variants end in. */
const SUFFIXES = {
  fp32: '',
  fp16: '_fp16',
  int8: '_int8',
  uint8: '_uint8',
  q8: '_quantized',
  q4: '_q4',
  q2: '_q2',
  q1: '_q1',
  bnb4: '_bnb4',
  q4f16: '_q4f16',
  q2f16: '_q2f16',
  q1f16: '_q1f16',
} as const;

/** A variant of an ONNX file: `fp32` has no suffix, `q8` has `_quantized`, the others have their own name. */
export type Dtype = keyof typeof SUFFIXES;

/** Every {@link Dtype}. */
export const dtypes: readonly Dtype[] = Object.keys(SUFFIXES) as Dtype[];

/** One variant of all graphs, or one of each that is named; `'auto'`: what the bundle's config.json says. */
export type DtypeChoice = Dtype | 'auto' | Partial<GraphDtypes>;

/** The variant of each graph. */
export type GraphDtypes = Readonly<Record<GraphName, Dtype>>;

/** Whether a value is a variant's name. */
function isDtype(value: unknown): value is Dtype {
  return typeof value === 'string' && Object.hasOwn(SUFFIXES, value);
}

/**
 * The variant of each graph: the choice, else what `transformers.js_config` of config.json says, else fp32.
 * @throws BundleError where config.json names a variant that there is not
 */
export function resolveDtypes(choice: DtypeChoice, directory: string, config: Json): GraphDtypes {
  const { dtype: own } = memberOf(config, 'transformers.js_config');
  const ofBundle = (graph: GraphName): Dtype => {
    const value = (isJson(own) ? own[graph] : own) ?? 'fp32';
    if (isDtype(value)) return value;
    if (value === 'auto') return 'fp32';
    throw new BundleError(
      `${directory}: config.json: transformers.js_config.dtype is ${shown(value)} for ${graph}; known are ${dtypes.join(', ')}. Choose another with the option dtype.`,
    );
  };
  const of = (graph: GraphName): Dtype => {
    if (choice === 'auto') return ofBundle(graph);
    return typeof choice === 'string' ? choice : (choice[graph] ?? ofBundle(graph));
  };
  return {
    vision_encoder: of('vision_encoder'),
    embed_tokens: of('embed_tokens'),
    decoder_model_merged: of('decoder_model_merged'),
  };
}

/** Where a bundle has a graph, relative to its folder, with `/`. */
export function graphFile(graph: GraphName, dtype: Dtype): string {
  return `onnx/${graph}${SUFFIXES[dtype]}.onnx`;
}

/** @throws InvalidArgumentError */
export function checkDtype(dtype: DtypeChoice): void {
  const isRecord = typeof dtype === 'object' && (dtype as object | null) !== null;
  const known: readonly string[] = graphNames;
  const isRight = isRecord
    ? Object.entries(dtype).every(([graph, one]) => known.includes(graph) && isDtype(one))
    : dtype === 'auto' || isDtype(dtype);
  if (isRight) return;
  throw new InvalidArgumentError(
    'dtype',
    dtype,
    `one of auto, ${dtypes.join(', ')}; or an object with one of these for some of ${known.join(', ')}`,
  );
}

/** One string for the variants, for messages. */
export function dtypeName(choice: GraphDtypes): string {
  const all = [...new Set(Object.values(choice))];
  return all.length === 1 ? all[0] : graphNames.map((graph) => `${graph}=${choice[graph]}`).join(', ');
}
