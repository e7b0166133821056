/**
 * A hub on the loopback interface, as far as fetching a model goes: the commit of a revision, the listing in
 * pages, files with ranges, large ones by a redirect to another origin.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { onTestFinished } from 'vitest';

export const ID = 'foveate/tiny';
export const COMMIT: string = createHash('sha1').update('a commit').digest('hex');
const REVISIONS = ['main', 'v1', 'refs/pr/1', COMMIT];
const PAGE = 4;

/** A file of the repository. What is listed may differ from what is served. */
export interface ServedFile {
  readonly path: string;
  bytes: Buffer;
  readonly listed: {
    type: 'file';
    path: string;
    size: number;
    oid: string;
    lfs?: { oid: string; size: number };
  };
}

/** A request as the tests look at it. */
interface Seen {
  readonly method: string;
  readonly url: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
  readonly origin: 'hub' | 'cdn';
}

export interface HubServer {
  /** For HF_ENDPOINT. */
  readonly endpoint: string;
  readonly files: Map<string, ServedFile>;
  readonly seen: Seen[];
  /** Paths of the files of which bytes were asked, in order. */
  fetched: () => string[];
  /** Answers in the hub's place where it returns true. */
  intercept: (request: IncomingMessage, response: ServerResponse, file: ServedFile | undefined) => boolean;
  close: () => Promise<void>;
}

/** Serves a folder as the model `ID`; ends with the test. */
export async function serveHub(folder: string): Promise<HubServer> {
  const files = await filesOf(folder);
  const seen: Seen[] = [];
  const handle =
    (origin: Seen['origin']) =>
    (request: IncomingMessage, response: ServerResponse): void => {
      const { method = '', url = '', headers } = request;
      seen.push({ method, url, range: headers.range, authorization: headers.authorization, origin });
      const name = /^\/(?:[^/]+\/[^/]+\/resolve\/[^/]+|cdn)\/([^?]+)/.exec(url)?.[1];
      const file = name === undefined ? undefined : files.get(name);
      if (hub.intercept(request, response, file)) return;
      if (file) sendFile(request, response, file, origin === 'hub' ? cdn : null);
      else sendReply(response, url, [...files.values()], hub.endpoint);
    };
  const servers = [createServer(handle('hub')), createServer(handle('cdn'))];
  const [endpoint, cdn] = await Promise.all(servers.map(listen));
  const hub: HubServer = {
    ...{ endpoint, files, seen },
    fetched: () =>
      seen.flatMap(
        ({ url, origin }) => /\/(?:resolve\/[^/]+)\/(.+)/.exec(origin === 'hub' ? url : '')?.[1] ?? [],
      ),
    intercept: () => false,
    close: async () => {
      await Promise.all(servers.map(close));
    },
  };
  onTestFinished(hub.close);
  return hub;
}

async function filesOf(folder: string): Promise<Map<string, ServedFile>> {
  const names = (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)).replaceAll(path.sep, '/'));
  const files = await Promise.all(
    names.map(async (name) => servedFile(name, await readFile(path.join(folder, name)))),
  );
  return new Map(files.map((file) => [file.path, file]));
}

/** As git and Git LFS name it: by the SHA-1 of a header and the bytes, large files by their SHA-256. */
export function servedFile(name: string, bytes: Buffer): ServedFile {
  const isLarge = name.startsWith('onnx/');
  const size = bytes.length;
  const stored = isLarge ? Buffer.from(`the pointer to ${name}`) : bytes;
  const oid = createHash('sha1').update(`blob ${stored.length}\0`).update(stored).digest('hex');
  const lfs = { oid: createHash('sha256').update(bytes).digest('hex'), size };
  return { path: name, bytes, listed: { type: 'file', path: name, size, oid, ...(isLarge && { lfs }) } };
}

function sendReply(
  response: ServerResponse,
  url: string,
  files: readonly ServedFile[],
  endpoint: string,
): void {
  const { pathname, searchParams } = new URL(url, endpoint);
  const revision = new RegExp(`^/api/models/${ID}/revision/(.+)$`).exec(pathname)?.[1];
  if (revision !== undefined) {
    if (REVISIONS.includes(decodeURIComponent(revision)))
      json(response, 200, { _id: '1', id: ID, sha: COMMIT });
    else json(response, 404, { error: 'Invalid rev id' }, { 'x-error-code': 'RevisionNotFound' });
  } else if (pathname === `/api/models/${ID}/tree/${COMMIT}`) {
    const from = Number(searchParams.get('cursor') ?? 0);
    const next = `<${endpoint}${pathname}?recursive=true&cursor=${from + PAGE}>; rel="next"`;
    const page = files.slice(from, from + PAGE).map(({ listed }) => listed);
    json(response, 200, page, from + PAGE < files.length ? { link: next } : {});
  } else json(response, 401, { error: 'Invalid username or password.' }, { 'x-error-code': 'RepoNotFound' });
}

function json(
  response: ServerResponse,
  status: number,
  value: unknown,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
}

function sendFile(
  request: IncomingMessage,
  response: ServerResponse,
  { path: name, bytes, listed }: ServedFile,
  cdn: string | null,
): void {
  if (listed.lfs && cdn !== null) {
    response.writeHead(302, { location: `${cdn}/cdn/${name}`, 'x-linked-etag': `"${listed.lfs.oid}"` }).end();
    return;
  }
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
  const isPart = request.headers.range !== undefined;
  if (isPart && from >= bytes.length) response.writeHead(416).end();
  else {
    const range = { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` };
    response.writeHead(isPart ? 206 : 200, { 'content-length': bytes.length - from, ...(isPart && range) });
    response.end(bytes.subarray(from));
  }
}

function listen(server: Server): Promise<string> {
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    });
  });
}

function close(server: Server): Promise<unknown> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(resolve));
}
