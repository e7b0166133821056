/** Reads a model from a path, without its weights: these stay in the file, or beside it. For Node. */
import { closeSync, fstatSync, openSync, readSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { OnnxArgumentError, OnnxFileError } from './errors.js';
import { resolveExternalData } from './external-data.js';
import { AGAIN, decodeModel, type OnnxModel } from './model.js';
import { readSkeleton, WireError, type ByteSource } from './skeleton.js';

/**
 * Reads a model from a path.
 *
 * Large weights are not read: initializers of 1 KiB and more become external data that points, by offset and
 * length, into the file itself, so the cost is some milliseconds for any size of file. Existing external data
 * is checked: it has to lie beside the model or below (links resolved, so that a download cache's links work)
 * and within its file. Synchronous.
 *
 * @throws OnnxFileError where there is no such file, it is truncated, no ONNX model, or its weights are out
 * of bounds
 */
export function readModel(path: string): OnnxModel {
  if (typeof path !== 'string') throw new OnnxArgumentError('path', typeof path, 'a path');
  const file = openFile(path);
  try {
    const start = Buffer.from(file.read(0, Math.min(file.size, 40))).toString('latin1');
    if (start.startsWith('version https://git-lfs')) {
      throw new OnnxFileError(
        path,
        'is a Git LFS pointer, not the model itself. Fetch it with `git lfs pull`.',
      );
    }
    const own = { location: basename(file.realPath), size: file.size };
    const [proto, graph] = decodeModel(path, readSkeleton(file, own.location));
    const folder = dirname(file.realPath);
    resolveExternalData(path, folder, own, graph);
    return { file: path, folder, proto, graph };
  } catch (error) {
    if (!(error instanceof WireError)) throw error;
    throw new OnnxFileError(
      path,
      `is truncated or no ONNX model: ${error.message} of ${file.size}. ${AGAIN}`,
    );
  } finally {
    file.close();
  }
}

/** A file read piece by piece through a small window. */
class FileSource implements ByteSource {
  readonly size: number;
  readonly realPath: string;
  readonly #path: string;
  readonly #descriptor: number;
  readonly #window: Buffer = Buffer.allocUnsafe(16384);
  #start = 0;
  #end = 0;

  constructor(path: string) {
    this.#path = path;
    this.realPath = realpathSync(path);
    // Before it is opened: to open a pipe waits for whoever writes into it.
    if (!statSync(this.realPath).isFile()) {
      throw new OnnxFileError(path, 'is not a file. Name the .onnx file itself.');
    }
    this.#descriptor = openSync(this.realPath, 'r');
    this.size = fstatSync(this.#descriptor).size;
    if (this.size === 0) {
      this.close();
      throw new OnnxFileError(path, `is empty. ${AGAIN}`);
    }
  }

  read(start: number, end: number): Uint8Array {
    if (end - start > this.#window.length) return this.#fill(Buffer.allocUnsafe(end - start), start);
    if (start < this.#start || end > this.#end) {
      this.#start = start;
      this.#end = Math.min(start + this.#window.length, this.size);
      this.#fill(this.#window.subarray(0, this.#end - start), start);
    }
    return this.#window.subarray(start - this.#start, end - this.#start);
  }

  close(): void {
    closeSync(this.#descriptor);
  }

  #fill(buffer: Buffer, position: number): Buffer {
    for (let filled = 0; filled < buffer.length;) {
      const count = readSync(this.#descriptor, buffer, filled, buffer.length - filled, position + filled);
      if (count === 0) throw new OnnxFileError(this.#path, 'became shorter while it was read.');
      filled += count;
    }
    return buffer;
  }
}

function openFile(path: string): FileSource {
  try {
    return new FileSource(path);
  } catch (error) {
    if (OnnxFileError.isInstance(error)) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
    const problem = code === 'ENOENT' ? 'there is no such file.' : `cannot be opened (${code}).`;
    throw new OnnxFileError(path, `${problem} Check the path and its permissions.`, { cause: error });
  }
}
