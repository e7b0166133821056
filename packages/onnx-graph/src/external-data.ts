/**
 * Where weights lie: checks that each tensor's values are where it says, and never outside the model's
 * folder.
 */
import { realpathSync, statSync } from 'node:fs';
import { isAbsolute, join, dirname, relative, sep } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { StringStringEntryProtoSchema, type GraphProto, type TensorProto } from 'onnx-buf';
import { OnnxFileError } from './errors.js';
import { byteLength, isExternal } from './tensor.js';
import { allTensors, checkInlineData, sizeMismatch } from './weights.js';

/** A file with weights: its name relative to the model's folder, and its bytes. */
export interface WeightFile {
  readonly location: string;
  readonly size: number;
}

/**
 * Checks the values of every tensor and rewrites the locations of external ones, links resolved, relative to
 * `folder`.
 *
 * @param file - path of the model, as it was given
 * @param folder - folder of the model, links resolved
 * @param own - the model's file itself, in `folder`
 * @throws OnnxFileError
 */
export function resolveExternalData(file: string, folder: string, own: WeightFile, graph: GraphProto): void {
  const known = new Map([[own.location, own]]);
  for (const tensor of allTensors(graph)) {
    if (!isExternal(tensor)) {
      checkInlineData(file, tensor);
      continue;
    }
    const entries = new Map(tensor.externalData.map(({ key, value }) => [key, value]));
    const written = entries.get('location') ?? '';
    let target = known.get(written);
    if (target === undefined) known.set(written, (target = locate(file, folder, tensor.name, written)));
    const offset = entries.get('offset') ?? '0';
    checkRange(file, tensor, target, offset, entries.get('length'));
    const resolved = Object.entries({
      location: target.location,
      offset,
      length: String(byteLength(tensor)),
    });
    tensor.externalData = resolved.map(([key, value]) =>
      create(StringStringEntryProtoSchema, { key, value }),
    );
  }
}

function checkRange(
  file: string,
  tensor: TensorProto,
  target: WeightFile,
  offset: string,
  length: string | undefined,
): void {
  const needed = byteLength(tensor);
  if (needed === undefined || (length !== undefined && Number(length) !== needed)) {
    throw sizeMismatch(file, tensor, length ?? 'an unknown number of');
  }
  if (!/^\d+$/.test(offset) || Number(offset) + needed > target.size) {
    throw new OnnxFileError(
      file,
      `tensor "${tensor.name}" has its ${needed} bytes at offset ${offset} of ${target.location}, which has ${target.size} ` +
        'bytes: the file is truncated or belongs to another model. Download or export the model again.',
    );
  }
}

/**
 * The real file behind an external location: inside the model's folder both as it is written and with links
 * resolved.
 */
function locate(file: string, folder: string, tensor: string, written: string): WeightFile {
  const refuse = (problem: string, advice: string): OnnxFileError =>
    new OnnxFileError(
      file,
      `tensor "${tensor}" has its values in ${JSON.stringify(written)}, ${problem}. ${advice}`,
    );
  const trust = 'Use such a model only from a source you trust, with its weights copied beside it.';
  if (!isInside(written)) throw refuse("which leads out of the model's folder", trust);
  let real: string;
  let size: number;
  try {
    real = realpathSync(join(dirname(file), written));
    const stat = statSync(real);
    if (!stat.isFile()) throw refuse('which is not a file', 'Put the weights there.');
    size = stat.size;
  } catch (error) {
    if (OnnxFileError.isInstance(error)) throw error;
    throw refuse(
      `which is not beside it (${(error as NodeJS.ErrnoException).code ?? 'unreadable'})`,
      'Put the weights there.',
    );
  }
  const location = relative(folder, real);
  if (!isInside(location)) throw refuse(`a link to ${real}, which lies elsewhere than the model`, trust);
  return { location: location.split(sep).join('/'), size };
}

/** Whether a relative path stays within the folder it starts from, on every platform. */
function isInside(path: string): boolean {
  const driveOrRoot = /^([a-zA-Z]:|[\\/])/.test(path) || isAbsolute(path);
  return path !== '' && !driveOrRoot && !path.includes('\0') && !path.split(/[\\/]/).includes('..');
}
