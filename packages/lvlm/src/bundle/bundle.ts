/**
 * Reads the small files of a bundle, the layout of transformers.js: what the runner must know before it opens
 * a graph.
 */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { BundleError } from '../platform/errors.js';
import { readFamily } from '../families/index.js';
import type { FamilyOptions, FamilySettings } from '../families/family.js';
import { findJson, readJson } from './files.js';
import { isJson, memberOf, wholeNumber, type Json } from './json.js';
import type { PreprocessorFile } from './preprocessing.js';
import { readTextCodec, type TextCodec } from './text-codec.js';

/**
 * Which variant of the bundle's ONNX files to read, by the file name's suffix: `fp32` has none, the others
 * `_fp16`, `_q4` ...
 */
export type Dtype = 'fp32' | 'fp16' | 'int8' | 'uint8' | 'quantized' | 'q4' | 'q4f16' | 'bnb4';

/** The graphs of a bundle, by the name of their file. */
export type GraphName = 'vision_encoder' | 'embed_tokens' | 'decoder_model_merged';

/** A bundle's own description of itself, checked. */
export interface Bundle {
  readonly directory: string;
  readonly family: FamilySettings;
  /** Paths of the ONNX files. */
  readonly graphs: Readonly<Record<GraphName, string>>;
  /** What ends an answer; empty where no file says it. */
  readonly endTokenIds: readonly number[];
  readonly contextLength: number | null;
  readonly text: TextCodec;
  /** What the bundle asks for and this runner does not do, one sentence each. */
  readonly warnings: readonly string[];
}

const NO_END =
  'No file of the bundle names an end token (eos_token_id): every answer goes on to maxNewTokens.';
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
/** Every {@link Dtype}. */
export const DTYPES: readonly Dtype[] = Object.keys(SUFFIX) as Dtype[];
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

/** Where a bundle has its graphs for a dtype, relative to its folder, with `/`. */
export function graphFiles(dtype: Dtype): Record<GraphName, string> {
  const file = (name: GraphName): string => `onnx/${name}${SUFFIX[dtype]}.onnx`;
  return {
    vision_encoder: file('vision_encoder'),
    embed_tokens: file('embed_tokens'),
    decoder_model_merged: file('decoder_model_merged'),
  };
}

/** @throws BundleError naming the file and what is wrong with it */
export async function readBundle(
  directory: string,
  dtype: Dtype,
  options: FamilyOptions = { newlines: 'drop' },
): Promise<Bundle> {
  const folder = path.resolve(directory);
  if (!(await stat(folder).catch(() => null))?.isDirectory()) {
    throw new BundleError(
      `${folder} is no folder. Name the folder of a bundle (config.json, tokenizer.json, onnx/ ...), or a model of the hub as owner/name.`,
    );
  }
  const config = await readJson(folder, 'config.json'); // first, because a folder without it is no bundle
  const [generation, ownPreprocessor, processor, tokenizer, tokenizerConfig] = await Promise.all([
    findJson(folder, 'generation_config.json').then((json) => json ?? {}),
    findJson(folder, 'preprocessor_config.json'),
    findJson(folder, 'processor_config.json').then((json) => json ?? {}),
    readJson(folder, 'tokenizer.json'),
    readJson(folder, 'tokenizer_config.json'),
  ]);
  const preprocessor = preprocessorOf(folder, ownPreprocessor, processor);
  const family = readFamily({ directory: folder, config, preprocessor, processor }, options);
  const { imageTokenId } = family;
  const text = memberOf(config, 'text_config');
  const codec = await readTextCodec({
    directory: folder,
    tokenizer,
    tokenizerConfig,
    processor,
    imageTokenId,
  });
  const endTokenIds = endTokens(
    folder,
    generation.eos_token_id ?? text.eos_token_id ?? config.eos_token_id ?? codec.endTokenId,
  );
  return {
    directory: folder,
    family,
    graphs: await graphPaths(folder, dtype),
    endTokenIds,
    contextLength:
      text.max_position_embeddings === undefined
        ? null
        : wholeNumber(
            folder,
            'config.json: text_config.max_position_embeddings',
            text.max_position_embeddings,
          ),
    text: codec,
    warnings: [
      ...codec.warnings,
      ...(endTokenIds.length === 0 ? [NO_END] : []),
      ...GENERATION_RULES.filter((rule) => isActive(rule, generation[rule])).map(
        (rule) => `generation_config.json asks for ${rule}, which this runner does not apply.`,
      ),
    ],
  };
}

/** Newer libraries save it as a part of processor_config.json. @throws BundleError */
function preprocessorOf(folder: string, own: Json | null, processor: Json): PreprocessorFile {
  if (own) return { name: 'preprocessor_config.json', json: own };
  if (isJson(processor.image_processor))
    return { name: 'processor_config.json: image_processor', json: processor.image_processor };
  throw new BundleError(
    `${path.join(folder, 'preprocessor_config.json')} is missing, and processor_config.json has no image_processor: ${folder} is an incomplete bundle.`,
  );
}

function endTokens(folder: string, value: unknown): number[] {
  const ids: unknown[] = Array.isArray(value) ? value : value === undefined ? [] : [value];
  return ids.map((id) => wholeNumber(folder, 'eos_token_id', id));
}

async function graphPaths(folder: string, dtype: Dtype): Promise<Record<GraphName, string>> {
  const files = graphFiles(dtype);
  const find = async (name: GraphName): Promise<string> => {
    const file = path.join(folder, files[name]);
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
