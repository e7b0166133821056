/**
 * Reads the small files of a bundle, the layout of transformers.js: what the runner must know before it opens
 * a graph.
 */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { BundleError } from '../platform/errors.js';
import { readFamily } from '../families/index.js';
import type { FamilyOptions, FamilySettings } from '../families/family.js';
import {
  dtypes,
  graphFile,
  resolveDtypes,
  type DtypeChoice,
  type GraphDtypes,
  type GraphName,
} from './dtypes.js';
import { findJson, readJson } from './files.js';
import { foreignLayout, graphsIn } from './foreign-folders.js';
import { readGenerationRules, unknownRules, type GenerationRules } from './generation-rules.js';
import { isJson, memberOf, wholeNumber, type Json } from './json.js';
import type { PreprocessorFile } from './preprocessing.js';
import { readTextCodec, type TextCodec } from './text-codec.js';
import { refuseUnknownFamily } from './unknown-family.js';

/** A bundle's own description of itself, checked. */
export interface Bundle {
  readonly directory: string;
  readonly family: FamilySettings;
  /** Paths of the ONNX files. */
  readonly graphs: Readonly<Record<GraphName, string>>;
  readonly dtypes: GraphDtypes;
  /** What generation_config.json says of the choice of tokens. */
  readonly rules: GenerationRules;
  /** What ends an answer; empty where no file says it. */
  readonly endTokenIds: readonly number[];
  readonly contextLength: number | null;
  /** Base of the language model's rotary positions. */
  readonly rotaryBase: number;
  readonly text: TextCodec;
  /** What the bundle asks for and this runner does not do, one sentence each. */
  readonly warnings: readonly string[];
}

const NO_END =
  'No file of the bundle names an end token (eos_token_id): every answer goes on to maxNewTokens.';
/** @throws BundleError naming the file and what is wrong with it */
export async function readBundle(
  directory: string,
  dtype: DtypeChoice,
  options: FamilyOptions = { newlines: 'drop' },
): Promise<Bundle> {
  const folder = path.resolve(directory);
  await refuseForeign(folder);
  const config = await readJson(folder, 'config.json'); // first, because a folder without it is no bundle
  const [generation, ownPreprocessor, processor, tokenizer, tokenizerConfig] = await Promise.all([
    findJson(folder, 'generation_config.json').then((json) => json ?? {}),
    findJson(folder, 'preprocessor_config.json'),
    findJson(folder, 'processor_config.json').then((json) => json ?? {}),
    readJson(folder, 'tokenizer.json'),
    readJson(folder, 'tokenizer_config.json'),
  ]);
  await refuseUnknownFamily(folder, config);
  const preprocessor = preprocessorOf(folder, ownPreprocessor, processor);
  const family = readFamily({ directory: folder, config, preprocessor, processor }, options);
  const { imageTokenId } = family;
  const textConfig = memberOf(config, 'text_config');
  const ofText = (name: string): unknown => textConfig[name] ?? config[name] ?? undefined; // flat in some families
  const contextLength = ofText('max_position_embeddings');
  const graphDtypes = resolveDtypes(dtype, folder, config);
  const codec = await readTextCodec({
    directory: folder,
    tokenizer,
    tokenizerConfig,
    processor,
    imageTokenId,
  });
  const endTokenIds = endTokens(
    folder,
    generation.eos_token_id ?? ofText('eos_token_id') ?? codec.endTokenId,
  );
  return {
    directory: folder,
    family,
    graphs: await graphPaths(folder, graphDtypes),
    dtypes: graphDtypes,
    rules: readGenerationRules(folder, generation),
    endTokenIds,
    contextLength:
      contextLength === undefined
        ? null
        : wholeNumber(folder, 'config.json: max_position_embeddings', contextLength),
    rotaryBase: rotaryBase(ofText('rope_theta') ?? memberOf(textConfig, 'rope_parameters').rope_theta),
    text: codec,
    warnings: [...codec.warnings, ...(endTokenIds.length === 0 ? [NO_END] : []), ...unknownRules(generation)],
  };
}

/** @throws BundleError where there is no folder, or one of another kind */
async function refuseForeign(folder: string): Promise<void> {
  const foreign = await foreignLayout(folder);
  if (foreign !== null) throw new BundleError(`${folder} is ${foreign}`);
  if ((await stat(folder).catch(() => null))?.isDirectory()) return;
  throw new BundleError(
    `${folder} is no folder. Name the folder of a bundle (config.json, tokenizer.json, onnx/ ...), or a model of the hub as owner/name.`,
  );
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

/** 10,000 where the files do not say, as the models' configurations have it. */
function rotaryBase(theta: unknown): number {
  return typeof theta === 'number' && theta > 1 ? theta : 10_000;
}

function endTokens(folder: string, value: unknown): number[] {
  const ids: unknown[] = Array.isArray(value) ? value : value === undefined ? [] : [value];
  return ids.map((id) => wholeNumber(folder, 'eos_token_id', id));
}

async function graphPaths(folder: string, chosen: GraphDtypes): Promise<Record<GraphName, string>> {
  const find = async (name: GraphName): Promise<string> => {
    const file = path.join(folder, graphFile(name, chosen[name]));
    if ((await stat(file).catch(() => null))?.isFile()) return file;
    const there = await graphsIn(folder);
    const others = dtypes.filter((dtype) => there.includes(path.basename(graphFile(name, dtype))));
    const advice =
      others.length > 0
        ? `Of ${name} there is the dtype ${others.join(', ')}.`
        : `The folder onnx/ has ${there.join(', ') || 'no graph'}.`;
    throw new BundleError(`${file} is missing, which dtype ${chosen[name]} reads. ${advice}`);
  };
  return {
    vision_encoder: await find('vision_encoder'),
    embed_tokens: await find('embed_tokens'),
    decoder_model_merged: await find('decoder_model_merged'),
  };
}
