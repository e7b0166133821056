/** Which variant of a bundle's ONNX files is read, graph by graph. */
import { BundleError } from '../platform/errors.js';
import { cut, isJson, shown, type Json } from './json.js';

/** The graphs of a bundle, by the name of their file. */
export type GraphName = 'vision_encoder' | 'embed_tokens' | 'decoder_model_merged';

/** A variant of an ONNX file, by what transformers.js calls it. */
export type DtypeName =
  | 'fp32'
  | 'fp16'
  | 'int8'
  | 'uint8'
  | 'q8'
  | 'quantized'
  | 'q4'
  | 'q2'
  | 'q1'
  | 'bnb4'
  | 'q4f16'
  | 'q2f16'
  | 'q1f16';

/**
 * One variant for all graphs, or one for each by its file's name without ending. `'auto'`, and a graph that is
 * left out: what `transformers.js_config` in config.json says, otherwise `'fp32'`.
 */
export type Dtype = DtypeName | 'auto' | Readonly<Partial<Record<GraphName, DtypeName | 'auto'>>>;

/** The variant of each graph. */
export type GraphDtypes = Readonly<Record<GraphName, DtypeName>>;

/** In the order in which they are asked for and named. */
export const GRAPHS: readonly GraphName[] = ['vision_encoder', 'embed_tokens', 'decoder_model_merged'];

const SUFFIXES: ReadonlyMap<unknown, string> = new Map<DtypeName, string>([
  ['fp32', ''],
  ['fp16', '_fp16'],
  ['int8', '_int8'],
  ['uint8', '_uint8'],
  ['q8', '_quantized'],
  ['quantized', '_quantized'],
  ['q4', '_q4'],
  ['q2', '_q2'],
  ['q1', '_q1'],
  ['bnb4', '_bnb4'],
  ['q4f16', '_q4f16'],
  ['q2f16', '_q2f16'],
  ['q1f16', '_q1f16'],
]);

/** All variants. */
export const DTYPES: readonly DtypeName[] = [...SUFFIXES.keys()] as DtypeName[];

/** Whether a value names a variant. */
export function isDtype(value: unknown): value is DtypeName {
  return SUFFIXES.has(value);
}

/** Name of a graph's file in a variant. */
export function graphFile(graph: GraphName, dtype: DtypeName): string {
  return `${graph}${SUFFIXES.get(dtype)}.onnx`;
}

/**
 * The variant of each graph.
 * @param config config.json
 * @throws BundleError where config.json names a variant that there is none of
 */
export function graphDtypes(directory: string, dtype: Dtype, config: Json): GraphDtypes {
  const own = config['transformers.js_config'];
  const byDefault = isJson(own) ? own.dtype : undefined;
  const of = (graph: GraphName): DtypeName => {
    const asked = typeof dtype === 'string' ? dtype : (dtype[graph] ?? 'auto');
    if (asked !== 'auto') return asked;
    const named = (isJson(byDefault) ? byDefault[graph] : byDefault) ?? 'auto';
    if (named === 'auto') return 'fp32';
    if (isDtype(named)) return named;
    throw new BundleError(
      `${directory}: config.json: transformers.js_config.dtype says ${shown(named)} for ${graph}; this runner knows ${DTYPES.join(', ')}. Give a dtype.`,
    );
  };
  const [vision, embeddings, decoder] = GRAPHS.map(of);
  return { vision_encoder: vision, embed_tokens: embeddings, decoder_model_merged: decoder };
}

/**
 * Why a graph's file is missing, and what there is in its place.
 * @param present names of the files in onnx/
 */
export function missingGraph(graph: GraphName, dtype: DtypeName, present: readonly string[]): string {
  const names = DTYPES.filter((name) => name !== 'quantized' && present.includes(graphFile(graph, name)));
  if (names.length > 0)
    return `The bundle has ${graph} in the dtypes ${names.join(', ')}, not in ${dtype}: choose one of these for it.`;
  const others = present.filter((name) => name.endsWith('.onnx'));
  return `A bundle has onnx/{${GRAPHS.join(',')}}.onnx, with the dtype's suffix; this one has ${others.length > 0 ? cut(others.join(', '), 300) : 'no .onnx file there'}.`;
}
