/** From what a caller calls a model to the folder of its bundle: a folder, or a model of the hub. For Node. */
import { stat } from 'node:fs/promises';
import { InvalidArgumentError } from '@foveate/core';
import { checkDtype, type DtypeChoice } from '../bundle/dtypes.js';

/** How far a download is. The first call comes before the first byte. */
export interface DownloadProgress {
  /** The file that is being fetched, relative to the repository. */
  readonly file: string;
  /** Bytes of it that are here. */
  readonly received: number;
  /** Bytes that it has. */
  readonly size: number;
  /** Of the files that were missing: how many, their bytes that are here, and all their bytes. */
  readonly missing: { readonly files: number; readonly received: number; readonly size: number };
}

/** What is wanted of a model of the hub. */
export interface HubOptions {
  /** A branch, a tag or a commit of a model of the hub. Default `'main'`. */
  readonly revision?: string;
  /** Use what the hub's cache holds and leave the network alone. Default false. */
  readonly localOnly?: boolean;
  /** Told how far the download of a model of the hub is; never called where nothing is missing. */
  readonly onProgress?: (progress: DownloadProgress) => void;
}

/** What of a model is wanted. */
export interface BundleOptions extends HubOptions {
  /**
   * Variant of the ONNX files, see `LoadOptions.dtype`: others are not fetched. Default `'auto'`.
   */
  readonly dtype?: DtypeChoice;
}

const HUB_ID = /^[a-z\d_][\w.-]*\/[a-z\d_][\w.-]*$/i;
const REVISION = /^(?!.*\.\.)[\w][\w./-]*$/;

/**
 * The folder of a bundle. Where `model` is not the path of anything and has the form `owner/name` it is one of
 * the hub, and what is missing of it is fetched into the hub's cache; every other `model` is returned as it is.
 * Honours HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_CACHE.
 * @throws HubError; InvalidArgumentError
 */
export async function bundleFolder(model: string, options: BundleOptions = {}): Promise<string> {
  const isLocal = !HUB_ID.test(model) || (await stat(model).catch(() => null)) !== null;
  if (!isLocal) return pullBundle(model, options);
  if (options.revision !== undefined)
    throw new InvalidArgumentError('revision', options.revision, `left out for a folder (${model})`);
  return model;
}

/**
 * The folder of a model of the hub, in the hub's cache, where what is missing of it is put first: see
 * {@link bundleFolder}. A folder of the same name is not looked at.
 * @param id `owner/name`
 * @throws HubError; InvalidArgumentError
 */
export async function pullBundle(id: string, options: BundleOptions = {}): Promise<string> {
  const { revision = 'main', localOnly = false, dtype = 'auto', onProgress } = options;
  if (!HUB_ID.test(id)) throw new InvalidArgumentError('model', id, 'a model of the hub, owner/name');
  checkDtype(dtype);
  if (!REVISION.test(revision))
    throw new InvalidArgumentError('revision', revision, 'a branch, a tag or a commit');
  const { pull, findPulled } = await import('./pull.js'); // its libraries are for those who use it
  const model = { id, revision };
  return localOnly ? findPulled(model, dtype) : pull(model, dtype, onProgress);
}
