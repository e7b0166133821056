/** A copy of a bundle whose weights lie beside the graphs, as exporters write large models. */
import { cp, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  ModelProtoSchema,
  StringStringEntryProtoSchema,
  TensorProto_DataLocation,
  type TensorProto,
} from 'onnx-buf';

const SMALLEST = 1024;
/** Where onnxruntime maps a file into memory. */
const ALIGNMENT = 4096;

/** @param files data files of each graph: NAME.onnx_data, NAME.onnx_data_1 ... */
export async function withExternalWeights(bundle: string, copy: string, files: number): Promise<string> {
  await cp(bundle, copy, { recursive: true });
  for (const name of ['vision_encoder', 'embed_tokens', 'decoder_model_merged'])
    await moveWeights(path.join(copy, 'onnx', `${name}.onnx`), files);
  return copy;
}

async function moveWeights(file: string, count: number): Promise<void> {
  const model = fromBinary(ModelProtoSchema, await readFile(file));
  const parts: Buffer[][] = Array.from({ length: count }, () => []);
  const large = model.graph!.initializer.filter(({ rawData }) => rawData.length >= SMALLEST);
  for (const [index, tensor] of large.entries()) {
    const to = index % count;
    moveTensor(tensor, `${path.basename(file)}_data${to === 0 ? '' : `_${to}`}`, parts[to]);
  }
  await writeFile(file, toBinary(ModelProtoSchema, model));
  for (const [index, part] of parts.entries())
    if (part.length > 0)
      await writeFile(`${file}_data${index === 0 ? '' : `_${index}`}`, Buffer.concat(part));
}

function moveTensor(tensor: TensorProto, location: string, part: Buffer[]): void {
  const bytes = Buffer.from(tensor.rawData);
  const offset = part.reduce((sum, { length }) => sum + length, 0);
  part.push(bytes, Buffer.alloc((ALIGNMENT - (bytes.length % ALIGNMENT)) % ALIGNMENT));
  const entries = { location, offset: String(offset), length: String(bytes.length) };
  tensor.rawData = new Uint8Array();
  tensor.dataLocation = TensorProto_DataLocation.EXTERNAL;
  tensor.externalData = Object.entries(entries).map(([key, value]) =>
    create(StringStringEntryProtoSchema, { key, value }),
  );
}
