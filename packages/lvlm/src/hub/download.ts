/**
 * Fetches one file of a repository into the cache. @huggingface/hub has a function for that,
 * downloadFileToCacheDir, but it neither resumes nor checks what came, and two processes write into the same
 * unfinished file: so these parts are done here. For Node.
 */
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout } from 'node:timers/promises';
import { lock } from 'proper-lockfile';
import { HubError } from '../platform/errors.js';
import { networkReason, type HubClient } from './client.js';

/** A file as the hub lists it. */
export interface RemoteFile {
  /** Relative to the repository, with `/`. */
  readonly path: string;
  /** In bytes. */
  readonly size: number;
  /** SHA-256 where it has 64 digits; else what git names its content by, SHA-1 of `blob SIZE\0` and the bytes. */
  readonly hash: string;
}

/** What of a file is fetched, from where and where to. */
export interface Download {
  readonly hub: HubClient;
  readonly url: string;
  readonly file: RemoteFile;
  /** Where it lies once it is whole and checked. */
  readonly blob: string;
  /** Told how many of its bytes are here. */
  readonly onBytes: (received: number) => void;
}

const TRIES = 5;
const FIRST_PAUSE_MS = 250;
/** A lock that was not renewed for so long is of a process that is dead. */
const STALE_MS = 10_000;

/**
 * Fetches a file, or waits while another process does. Its blob appears whole and checked, or not at all; what
 * came of it before a failure is kept, and a later call goes on from there.
 * @throws HubError
 */
export async function download(what: Download): Promise<void> {
  const { file, blob } = what;
  await mkdir(path.dirname(blob), { recursive: true });
  const lost = new AbortController();
  const release = await lock(blob, {
    realpath: false, // there is no such file yet
    stale: STALE_MS,
    retries: { forever: true, factor: 1, minTimeout: 200, maxTimeout: 200 },
    onCompromised: (cause) => {
      lost.abort(
        new HubError(`${file.path}: another process took the download over. Run it again.`, { cause }),
      );
    },
  });
  try {
    if ((await sizeOf(blob)) === file.size) return;
    await fetchChecked(what, `${blob}.partial`, lost.signal);
  } finally {
    await release().catch(() => undefined); // lost already
    what.onBytes(file.size);
  }
}

/** Bytes of a file, links followed; null where there is none. */
export async function sizeOf(file: string): Promise<number | null> {
  const found = await stat(file).catch(() => null);
  return found?.isFile() ? found.size : null;
}

async function fetchChecked(what: Download, partial: string, signal: AbortSignal): Promise<void> {
  const { file, blob } = what;
  for (;;) {
    const resumed = (await sizeOf(partial)) !== null;
    await fetchWhole(what, partial, signal);
    const hash = await hashOf(partial, file);
    signal.throwIfAborted();
    if (hash === file.hash) return rename(partial, blob);
    await rm(partial, { force: true });
    // What an earlier process left may have been wrong: once more from the first byte on.
    if (!resumed)
      throw new HubError(
        `${file.path}: what came has the hash ${hash}, and the hub lists ${file.hash}. It was changed on its way, or replaced at this moment: run it again; if it stays so, do not use this source.`,
      );
  }
}

/** Fetches what is missing of a file, in several tries where the connection breaks. */
async function fetchWhole(what: Download, partial: string, signal: AbortSignal): Promise<void> {
  const { size, path: name } = what.file;
  let failure: unknown = null;
  for (let pause = FIRST_PAUSE_MS, tries = 0; tries < TRIES; tries++, pause *= 2) {
    if (tries > 0) await setTimeout(pause);
    try {
      await fetchRest(what, partial, signal);
      failure = null;
    } catch (error) {
      signal.throwIfAborted();
      if (!isPassing(error)) throw error;
      failure = error;
    }
    if ((await sizeOf(partial)) === size) return;
  }
  const reason = failure === null ? 'the hub ends its answer early' : networkReason(failure);
  throw new HubError(
    `${name}: ${(await sizeOf(partial)) ?? 0} of its ${size} bytes came in ${TRIES} tries: ${reason}. Run it again: it goes on from there.`,
    { cause: failure },
  );
}

/** A broken connection (fetch throws a TypeError), or a hub that has a problem of its own. */
function isPassing(error: unknown): boolean {
  if (HubError.isInstance(error)) return error.status === null || error.status >= 500;
  return error instanceof TypeError;
}

/** One request for the bytes that are missing. */
async function fetchRest(
  { hub, url, file, onBytes }: Download,
  partial: string,
  signal: AbortSignal,
): Promise<void> {
  const offset = (await sizeOf(partial)) ?? 0;
  if (offset === file.size && offset > 0) return;
  const lies = async (sent: string, status: number): Promise<HubError> => {
    await rm(partial, { force: true });
    return new HubError(
      `${file.path}: the hub lists ${file.size} bytes and has ${sent}. Run it again later.`,
      { status },
    );
  };
  const headers = { 'accept-encoding': 'identity', ...(offset > 0 && { range: `bytes=${offset}-` }) };
  const response = await hub.fetch(url, { headers, signal }).catch(async (error: unknown) => {
    throw HubError.isInstance(error) && error.status === 416 ? await lies('fewer', 416) : error;
  });
  // A server that knows no ranges sends all of it.
  const start = response.status === 206 ? rangeStart(response) : 0;
  if (start !== 0 && start !== offset)
    throw await lies(`sent those from ${start} on, not from ${offset}`, 206);
  let position = start;
  async function* counted(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      position += chunk.length;
      if (position > file.size) throw await lies('more', response.status);
      yield chunk;
      onBytes(position);
    }
  }
  const body = response.body === null ? Readable.from([]) : Readable.fromWeb(response.body);
  await pipeline(body, counted, createWriteStream(partial, start > 0 ? { flags: 'r+', start } : {}));
}

function rangeStart(response: Response): number {
  return Number(/^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1] ?? NaN);
}

async function hashOf(file: string, { hash, size }: RemoteFile): Promise<string> {
  const digest = hash.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
  await pipeline(createReadStream(file), digest);
  return digest.digest('hex');
}
