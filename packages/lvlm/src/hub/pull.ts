/** Puts the files of a bundle that a dtype needs from the hub into the hub's cache. For Node. */
import { statfs } from 'node:fs/promises';
import path from 'node:path';
import { FoveateError } from '@foveate/core';
import { listFiles, modelInfo } from '@huggingface/hub';
import {
  dtypeName,
  graphFile,
  graphNames,
  resolveDtypes,
  type DtypeChoice,
  type GraphDtypes,
} from '../bundle/dtypes.js';
import { readJson } from '../bundle/files.js';
import { HubError } from '../platform/errors.js';
import type { DownloadProgress } from './bundle-folder.js';
import { isCommit, ModelCache } from './cache.js';
import { openHub, type HubClient, type HubModel } from './client.js';
import { download, sizeOf, type RemoteFile } from './download.js';

/** Beside the graphs, a bundle without these is none. */
const REQUIRED = ['config.json', 'tokenizer.json', 'tokenizer_config.json'];
const TEXTS = [
  ...REQUIRED,
  'generation_config.json',
  'preprocessor_config.json',
  'processor_config.json',
  'chat_template.json',
  'chat_template.jinja',
];

/**
 * Fetches what is missing of a model.
 * @returns its folder in the cache, where every file is whole
 * @throws HubError
 */
export async function pull(
  model: HubModel,
  choice: DtypeChoice,
  onProgress: ((progress: DownloadProgress) => void) | undefined,
): Promise<string> {
  const hub = openHub(model);
  const cache = new ModelCache(model.id);
  try {
    const commit = await commitOf(hub);
    const listed = await listingOf(hub, commit);
    const dtypes = await dtypesOf(hub, cache, commit, listed, choice);
    const files = filesOf(hub, listed, dtypes);
    await fetchMissing(hub, cache, commit, files, onProgress);
    // Last those without which nothing is opened: a bundle in the cache is whole or lacks its config.json.
    for (const { path: name, hash, size } of files.toReversed())
      if ((await sizeOf(path.join(cache.snapshot(commit), name))) !== size)
        await cache.link(hash, commit, name);
    await cache.remember(model.revision, commit);
    return cache.snapshot(commit);
  } catch (cause) {
    if (FoveateError.isInstance(cause)) throw cause;
    if ((cause as NodeJS.ErrnoException).code === undefined) throw cause;
    throw new HubError(`${cache.folder} cannot be written: ${(cause as Error).message}.`, { cause });
  }
}

/**
 * The folder in the cache of a model that was fetched before.
 * @throws HubError where it was not, naming what is missing
 */
export async function findPulled({ id, revision }: HubModel, choice: DtypeChoice): Promise<string> {
  const cache = new ModelCache(id);
  const commit = await cache.commitOf(revision);
  const folder = commit === null ? '' : cache.snapshot(commit);
  const config =
    (await sizeOf(path.join(folder, 'config.json'))) === null ? {} : await readJson(folder, 'config.json');
  const dtypes = resolveDtypes(choice, folder, config);
  const missing: string[] = [];
  for (const name of [...REQUIRED, ...graphFiles(dtypes)])
    if (commit === null || (await sizeOf(path.join(cache.snapshot(commit), name))) === null)
      missing.push(name);
  if (commit !== null && missing.length === 0) return cache.snapshot(commit);
  throw new HubError(
    `${id} (${revision}, dtype ${dtypeName(dtypes)}) is not in the cache ${cache.folder}: ${missing.join(', ')} missing. Fetch it with "foveate pull ${id}", or load it once without localOnly (--local-only).`,
  );
}

async function commitOf(hub: HubClient): Promise<string> {
  const { id, revision } = hub.model;
  const { sha } = await replyOf(hub, () =>
    modelInfo({ name: id, revision, hubUrl: hub.endpoint, fetch: hub.fetch, additionalFields: ['sha'] }),
  );
  if (typeof sha === 'string' && isCommit(sha)) return sha; // it becomes the name of a folder
  throw new HubError(
    `${hub.endpoint} names no commit of ${id} at ${revision}: it is no hub. Check HF_ENDPOINT.`,
  );
}

/** The graphs of a bundle, relative to its folder. */
function graphFiles(dtypes: GraphDtypes): string[] {
  return graphNames.map((name) => graphFile(name, dtypes[name]));
}

/** The variant of each graph; config.json is fetched first where it decides. */
async function dtypesOf(
  hub: HubClient,
  cache: ModelCache,
  commit: string,
  listed: ReadonlyMap<string, RemoteFile>,
  choice: DtypeChoice,
): Promise<GraphDtypes> {
  const isSaid = typeof choice === 'string' && choice !== 'auto';
  const [config] = isSaid ? [] : checkedFile(hub, listed.get('config.json'));
  if (!(config as RemoteFile | undefined)) return resolveDtypes(choice, hub.model.id, {});
  await fetchMissing(hub, cache, commit, [config], undefined);
  const blob = cache.blob(config.hash);
  return resolveDtypes(choice, hub.model.id, await readJson(path.dirname(blob), path.basename(blob)));
}

/** All files of a commit, by their names. */
async function listingOf(hub: HubClient, commit: string): Promise<ReadonlyMap<string, RemoteFile>> {
  const { id } = hub.model;
  return replyOf(hub, async () => {
    const files = new Map<string, RemoteFile>();
    const repo = { type: 'model', name: id } as const;
    const entries = listFiles({
      repo,
      revision: commit,
      recursive: true,
      hubUrl: hub.endpoint,
      fetch: hub.fetch,
    });
    for await (const { type, path: name, size, oid, lfs } of entries)
      if (type === 'file')
        files.set(name, { path: name, size: lfs?.size ?? size, hash: lfs?.oid ?? oid ?? '' });
    return files;
  });
}

/** What of a repository the graphs need: texts, config.json first; graphs; what lies beside these. */
function filesOf(hub: HubClient, listed: ReadonlyMap<string, RemoteFile>, dtypes: GraphDtypes): RemoteFile[] {
  const { id } = hub.model;
  const graphs = graphFiles(dtypes);
  const missing = [...REQUIRED, ...graphs].filter((name) => !listed.has(name));
  if (missing.length > 0)
    throw new HubError(
      `${id} at ${hub.model.revision} lacks ${missing.join(', ')}${advice([...listed.keys()], dtypes)}`,
    );
  // Weights beside a graph: NAME.onnx_data, NAME.onnx_data_1 ..., from some exporters NAME.onnx.data.
  const isWeights = (name: string): boolean => graphs.some((graph) => /^[._]data/.test(cutOff(name, graph)));
  const wanted = [...TEXTS, ...graphs, ...[...listed.keys()].filter(isWeights)];
  return wanted.flatMap((name) => checkedFile(hub, listed.get(name)));
}

function cutOff(name: string, start: string): string {
  return name.startsWith(start) ? name.slice(start.length) : '';
}

/** What to do about a repository that lacks something. */
function advice(names: readonly string[], dtypes: GraphDtypes): string {
  if (!names.some((name) => name.startsWith('onnx/')))
    return ': it is not in the layout of transformers.js, with graphs in onnx/. Look for an ONNX version of it.';
  const decoders = names.filter((name) => /^onnx\/decoder_model_merged(_\w+)?\.onnx$/.test(name));
  return `. Asked for is dtype ${dtypeName(dtypes)}; of decoders it has ${decoders.join(', ') || 'none: it is another kind of model'}.`;
}

/** A file of the listing; none where it is not listed. What the hub says is checked before it names a file. */
function checkedFile(hub: HubClient, file: RemoteFile | undefined): RemoteFile[] {
  if (file === undefined) return [];
  const isSize = Number.isSafeInteger(file.size) && file.size >= 0;
  if (isSize && /^([\da-f]{40}|[\da-f]{64})$/.test(file.hash)) return [file];
  throw new HubError(
    `${hub.endpoint} lists ${file.path} without a size or a hash, so it could not be checked.`,
  );
}

async function fetchMissing(
  hub: HubClient,
  cache: ModelCache,
  commit: string,
  files: readonly RemoteFile[],
  onProgress: ((progress: DownloadProgress) => void) | undefined,
): Promise<void> {
  const missing: RemoteFile[] = [];
  for (const file of files) {
    const sizes = [path.join(cache.snapshot(commit), file.path), cache.blob(file.hash)].map(sizeOf);
    if (!(await Promise.all(sizes)).includes(file.size)) missing.push(file);
  }
  const size = missing.reduce((sum, file) => sum + file.size, 0);
  await checkRoom(cache.folder, hub.model, missing, size);
  let before = 0;
  for (const file of missing) {
    const onBytes = (received: number): void =>
      onProgress?.({
        ...{ file: file.path, received, size: file.size },
        missing: { files: missing.length, received: before + received, size },
      });
    onBytes(0);
    const url = `${hub.endpoint}/${hub.model.id}/resolve/${commit}/${file.path}`;
    await download({ hub, url, file, blob: cache.blob(file.hash), onBytes });
    before += file.size;
  }
}

/** @throws HubError where the disk is too small for what is missing */
async function checkRoom(
  folder: string,
  { id }: HubModel,
  missing: readonly RemoteFile[],
  size: number,
): Promise<void> {
  const disk = await statfs(await existingParent(folder));
  const room = disk.bavail * disk.bsize;
  if (size <= room) return;
  const list = missing.map((file) => `${file.path} (${megabytes(file.size)})`).join(', ');
  throw new HubError(
    `${id} needs ${megabytes(size)} more, and ${folder} has room for ${megabytes(room)}. Missing: ${list}. Make room, or move the cache with HF_HOME.`,
  );
}

async function existingParent(folder: string): Promise<string> {
  for (let parent = folder; ; parent = path.dirname(parent)) {
    const isThere = await statfs(parent)
      .then(() => true)
      .catch(() => false);
    if (isThere || parent === path.dirname(parent)) return parent;
  }
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}

/** What the library reads out of a reply, which may be no hub's at all. */
async function replyOf<T>(hub: HubClient, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    if (HubError.isInstance(cause)) throw cause;
    throw new HubError(
      `${hub.endpoint} answers what is no hub's reply: ${(cause as Error).message}. Check HF_ENDPOINT, or try again later.`,
      { cause },
    );
  }
}
