import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import type { LvlmInfo } from '@foveate/lvlm';

/**
 * SHA-256 of a loaded bundle's configuration, tokenizer, template and of the graphs that it was loaded with,
 * names included: the same for two copies of a bundle.
 */
export async function fingerprintBundle({
  directory,
  graphs: loaded,
}: Pick<LvlmInfo, 'directory' | 'graphs'>): Promise<string> {
  const texts = (await readdir(directory)).filter((name) => /\.(json|jinja)$/.test(name));
  const files = Object.values(loaded).map((file) => path.basename(file));
  const isLoaded = (name: string): boolean =>
    files.some((file) => name === file || name.startsWith(`${file}_data`));
  const graphs = (await readdir(path.join(directory, 'onnx'))).filter(isLoaded);
  const hash = createHash('sha256');
  for (const name of [...texts, ...graphs.map((graph) => path.join('onnx', graph))].sort()) {
    const contents = createHash('sha256');
    for await (const chunk of createReadStream(path.join(directory, name)))
      contents.update(chunk as Uint8Array);
    hash.update(`${name.replaceAll(path.sep, '/')}:${contents.digest('hex')}\n`);
  }
  return hash.digest('hex');
}
