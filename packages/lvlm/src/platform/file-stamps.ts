/**
 * Whether files are still what they were when they were opened: onnxruntime maps weights into memory, and a
 * process dies of reading beyond a file's new end.
 */
import { stat } from 'node:fs/promises';

/** Files, each as it was when it was remembered first. */
export class FileStamps {
  readonly #stamps = new Map<string, string>();

  async remember(files: readonly string[]): Promise<void> {
    for (const file of files) {
      if (!this.#stamps.has(file)) this.#stamps.set(file, await stampOf(file));
    }
  }

  /** The first file that changed or went away; null where none did. */
  async changed(): Promise<string | null> {
    for (const [file, stamp] of this.#stamps) if ((await stampOf(file)) !== stamp) return file;
    return null;
  }
}

async function stampOf(file: string): Promise<string> {
  const found = await stat(file, { bigint: true }).catch(() => null);
  return found ? [found.dev, found.ino, found.size, found.mtimeNs].join(' ') : 'missing';
}
