/** Reads the small files of a bundle, the layout of transformers.js: what the runner must know before it opens a graph. */
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { BundleError } from '../platform/errors.js';
import { isJson, type Json } from './json.js';
import { readPreprocessing, type Preprocessing } from './preprocessing.js';
import { readTextCodec, type TextCodec } from './text-codec.js';
import type { Dtype } from '../caller/types.js';

/** The graphs of a bundle, by the name of their file. */
export type GraphName = 'vision_encoder' | 'embed_tokens' | 'decoder_model_merged';

/** A bundle's own description of itself, checked. */
export interface Bundle {
  readonly directory: string;
  readonly modelType: string;
  /** Paths of the ONNX files. */
  readonly graphs: Readonly<Record<GraphName, string>>;
  readonly imageTokenId: number;
  readonly endTokenIds: readonly number[];
  /** Pixels of a side of a patch. */
  readonly patchSize: number;
  /** Layers that the vision encoder was trained with; exports may lack the last ones. */
  readonly visionLayers: number;
  readonly contextLength: number | null;
  readonly preprocessing: Preprocessing;
  readonly text: TextCodec;
  /** What the bundle asks for and this runner does not do, one sentence each. */
  readonly warnings: readonly string[];
}

/** Model types whose image features replace one image token each, in the order of the tokens. */
const MODEL_TYPES = ['llava'];
const MAX_JSON_BYTES = 2 ** 27;
const SUFFIX: Record<Dtype, string> = {
  fp32: '',
  fp16: '_fp16',
  int8: '_int8',
  uint8: '_uint8',
  quantized: '_quantized',
  q4: '_q4',
  q4f16: '_q4f16',
  bnb4: '_bnb4',
};
/** Members of generation_config.json that change a greedy answer. */
const GENERATION_RULES = [
  'repetition_penalty',
  'no_repeat_ngram_size',
  'suppress_tokens',
  'begin_suppress_tokens',
  'bad_words_ids',
  'forced_bos_token_id',
  'forced_eos_token_id',
  'min_length',
  'min_new_tokens',
];

/** @throws BundleError naming the file and what is wrong with it */
export async function readBundle(directory: string, dtype: Dtype): Promise<Bundle> {
  const folder = path.resolve(directory);
  if (!(await stat(folder).catch(() => null))?.isDirectory()) {
    throw new BundleError(
      `${folder} is no folder. Name the folder of a bundle: config.json, tokenizer.json, onnx/ ...`,
    );
  }
  const [config, generation, preprocessor, processor, tokenizer, tokenizerConfig] = await Promise.all([
    readJson(folder, 'config.json'),
    readJson(folder, 'generation_config.json', {}),
    readJson(folder, 'preprocessor_config.json'),
    readJson(folder, 'processor_config.json', {}),
    readJson(folder, 'tokenizer.json'),
    readJson(folder, 'tokenizer_config.json'),
  ]);
  const modelType = String(config.model_type);
  if (!MODEL_TYPES.includes(modelType)) {
    throw new BundleError(
      `${folder}: config.json says model_type ${JSON.stringify(config.model_type)}; this runner knows ${MODEL_TYPES.join(', ')}.`,
    );
  }
  const text = member(config, 'text_config');
  const vision = member(config, 'vision_config');
  const imageTokenId = count(
    folder,
    'config.json: image_token_index',
    config.image_token_index ?? config.image_token_id,
  );
  const preprocessing = readPreprocessing(folder, preprocessor);
  return {
    directory: folder,
    modelType,
    graphs: await graphPaths(folder, dtype),
    imageTokenId,
    endTokenIds: endTokens(folder, generation.eos_token_id ?? text.eos_token_id ?? config.eos_token_id),
    // Defaults of CLIPVisionConfig, which configs of older libraries leave out.
    patchSize: count(folder, 'patch_size', processor.patch_size ?? vision.patch_size ?? 32),
    visionLayers: count(
      folder,
      'config.json: vision_config.num_hidden_layers',
      vision.num_hidden_layers ?? 12,
    ),
    contextLength:
      text.max_position_embeddings === undefined
        ? null
        : count(folder, 'config.json: text_config.max_position_embeddings', text.max_position_embeddings),
    preprocessing,
    text: await readTextCodec({
      directory: folder,
      tokenizer,
      tokenizerConfig,
      imageTokenId,
      imageToken: processor.image_token,
    }),
    warnings: GENERATION_RULES.filter((rule) => isActive(rule, generation[rule])).map(
      (rule) => `generation_config.json asks for ${rule}, which this runner does not apply.`,
    ),
  };
}

/**
 * Reads a JSON object of a bundle; `fallback` where the file is absent.
 * @throws BundleError
 */
async function readJson(folder: string, name: string, fallback?: Json): Promise<Json> {
  const file = path.join(folder, name);
  const size = (await stat(file).catch(() => null))?.size;
  if (size === undefined) {
    if (fallback) return fallback;
    throw new BundleError(`${file} is missing: ${folder} is no bundle, or an incomplete one.`);
  }
  if (size > MAX_JSON_BYTES)
    throw new BundleError(`${file} has ${size} bytes; a bundle's JSON files have at most ${MAX_JSON_BYTES}.`);
  let value: unknown;
  try {
    value = JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    throw new BundleError(
      `${file} cannot be read as JSON: ${(cause as Error).message}. It is damaged or was cut short: fetch it again.`,
      { cause },
    );
  }
  if (!isJson(value)) throw new BundleError(`${file} must hold a JSON object.`);
  return value;
}

function member(config: Json, name: string): Json {
  const value = config[name];
  return isJson(value) ? value : {};
}

function count(folder: string, what: string, value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new BundleError(
    `${folder}: ${what} must be a whole number; it is ${value === undefined ? 'missing' : JSON.stringify(value)}.`,
  );
}

function endTokens(folder: string, value: unknown): number[] {
  const ids = Array.isArray(value) ? value : [value];
  return ids.map((id) => count(folder, 'eos_token_id', id));
}

async function graphPaths(folder: string, dtype: Dtype): Promise<Record<GraphName, string>> {
  const find = async (name: GraphName): Promise<string> => {
    const file = path.join(folder, 'onnx', `${name}${SUFFIX[dtype]}.onnx`);
    if ((await stat(file).catch(() => null))?.isFile()) return file;
    throw new BundleError(
      `${file} is missing. A bundle has onnx/{vision_encoder,embed_tokens,decoder_model_merged}${SUFFIX[dtype]}.onnx for dtype ${dtype}; try another dtype.`,
    );
  };
  return {
    vision_encoder: await find('vision_encoder'),
    embed_tokens: await find('embed_tokens'),
    decoder_model_merged: await find('decoder_model_merged'),
  };
}

function isActive(rule: string, value: unknown): boolean {
  if (value === undefined || value === null) return false;
  return value !== (rule === 'repetition_penalty' ? 1 : 0) && !(Array.isArray(value) && value.length === 0);
}
