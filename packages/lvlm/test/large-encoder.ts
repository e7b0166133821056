/** The small random bundle with a vision encoder of CLIP-L/336's width and random weights, for benchmarks. */
import { cp, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { RawImage } from '@foveate/lvlm';
import { clipGraph } from './clip-graph.js';

const FIXTURE = fileURLToPath(new URL('../../fixtures/random-llava', import.meta.url)); // from .reports/bench
const SIZES = { width: 1024, heads: 16, inner: 4096, imageSize: 336, patchSize: 14, output: 24 };

/** A picture as large as the encoder reads. */
export const LARGE_PICTURE: RawImage = {
  data: Uint8Array.from({ length: SIZES.imageSize ** 2 * 3 }, (_, i) => (i * 31) % 251),
  ...{ width: SIZES.imageSize, height: SIZES.imageSize, channels: 3 },
};

/** @param layers of the encoder up to the one that makes the features; 23 make 1.2 GB */
export async function writeLargeEncoder(folder: string, layers: number): Promise<void> {
  await cp(FIXTURE, folder, { recursive: true });
  await writeFile(path.join(folder, 'onnx/vision_encoder.onnx'), clipGraph({ ...SIZES, layers }));
  const change = async (name: string, values: object): Promise<void> => {
    const file = path.join(folder, name);
    const json = JSON.parse(await readFile(file, 'utf8')) as Record<string, object>;
    await writeFile(file, JSON.stringify({ ...json, ...values }));
  };
  const { imageSize, patchSize } = SIZES;
  await change('config.json', {
    vision_config: { image_size: imageSize, patch_size: patchSize, num_hidden_layers: layers + 1 },
  });
  await change('preprocessor_config.json', {
    size: { shortest_edge: imageSize },
    crop_size: { height: imageSize, width: imageSize },
  });
  await change('processor_config.json', { patch_size: patchSize });
}
