import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir } from 'node:fs/promises';
import path from 'node:path';

/** The graphs of a run, with their external data; a bundle may hold other variants beside them. */
const GRAPHS = /^(vision_encoder|embed_tokens|decoder_model_merged)\.onnx/;

/**
 * SHA-256 of a bundle's configuration, tokenizer, template and graphs, names included: the same for two
 * copies of a bundle.
 * @param directory of a bundle that was loaded, so that its files are there
 */
export async function fingerprintBundle(directory: string): Promise<string> {
  const texts = (await readdir(directory)).filter((name) => /\.(json|jinja)$/.test(name));
  const graphs = (await readdir(path.join(directory, 'onnx'))).filter((name) => GRAPHS.test(name));
  const hash = createHash('sha256');
  for (const name of [...texts, ...graphs.map((graph) => path.join('onnx', graph))].sort()) {
    const contents = createHash('sha256');
    for await (const chunk of createReadStream(path.join(directory, name)))
      contents.update(chunk as Uint8Array);
    hash.update(`${name.replaceAll(path.sep, '/')}:${contents.digest('hex')}\n`);
  }
  return hash.digest('hex');
}
