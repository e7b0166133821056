/**
 * The cache of the hub's libraries: models--OWNER--NAME/{refs,snapshots,blobs}, the files of a snapshot being
 * links to blobs. @huggingface/hub knows where it is; it removes a link before it makes it anew, so that
 * another process may miss it, and so links are made here. For Node.
 */
import { randomUUID } from 'node:crypto';
import { copyFile, mkdir, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { getHFHubCachePath, getRepoFolderName } from '@huggingface/hub';

const COMMIT = /^[\da-f]{40}$/;

/** A model's folder in the cache. */
export class ModelCache {
  readonly folder: string;

  /** @param id `owner/name` */
  constructor(id: string) {
    this.folder = path.resolve(getHFHubCachePath(), getRepoFolderName({ type: 'model', name: id }));
  }

  /** Where the bytes with that hash lie. */
  blob(hash: string): string {
    return path.join(this.folder, 'blobs', hash);
  }

  /** Folder of a commit's files. */
  snapshot(commit: string): string {
    return path.join(this.folder, 'snapshots', commit);
  }

  /** The commit of a revision when it was fetched last; null where it never was. */
  async commitOf(revision: string): Promise<string | null> {
    if (isCommit(revision)) return revision;
    const commit = await readFile(this.#ref(revision), 'utf8').catch(() => '');
    return isCommit(commit.trim()) ? commit.trim() : null;
  }

  async remember(revision: string, commit: string): Promise<void> {
    if (revision !== commit) await replace(this.#ref(revision), (temporary) => writeFile(temporary, commit));
  }

  /** Puts a blob into a snapshot, under its name there. */
  async link(hash: string, commit: string, name: string): Promise<void> {
    const file = path.join(this.snapshot(commit), name);
    const blob = this.blob(hash);
    await replace(file, async (temporary) => {
      try {
        await symlink(path.relative(path.dirname(file), blob), temporary);
      } catch {
        await copyFile(blob, temporary); // Windows lets only some users make links
      }
    });
  }

  #ref(revision: string): string {
    return path.join(this.folder, 'refs', revision);
  }
}

/** Whether a revision is the full name of a commit. */
export function isCommit(revision: string): boolean {
  return COMMIT.test(revision);
}

/** Makes a file under another name and moves it, so that no reader meets half of it or none. */
async function replace(file: string, make: (temporary: string) => Promise<void>): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const temporary = `${file}.${randomUUID()}`;
  await make(temporary);
  await rename(temporary, file);
}
