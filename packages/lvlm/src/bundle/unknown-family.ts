/** What is said of a bundle whose family this runner does not know. */
import path from 'node:path';
import { describeModel, OnnxGraphError } from '@foveate/onnx-graph';
import { readModel } from '@foveate/onnx-graph/files';
import { familyTypes } from '../families/index.js';
import { BundleError } from '../platform/errors.js';
import { dtypes, graphFile, graphNames, type GraphName } from './dtypes.js';
import { graphsIn } from './foreign-folders.js';
import { graphInputs } from './graph-inputs.js';
import { shown, type Json } from './json.js';

/** Caches of decoders, of any kind. */
const CACHE = /^past_[a-z_]+\.\d+/;

/**
 * Refuses families that this runner does not know.
 * @throws BundleError which names the family, those that are known, and which graphs and inputs are not
 * understood
 */
export async function refuseUnknownFamily(folder: string, { model_type: type }: Json): Promise<void> {
  if (familyTypes.includes(type as string)) return;
  const there = await graphsIn(folder);
  const isRead = (file: string): boolean => graphNames.some((name) => file.startsWith(name));
  const unread = there.filter((file) => !isRead(file));
  const missing = graphNames.filter((name) => !there.some((file) => file.startsWith(name)));
  const inputs = graphNames.map((name) => inputsOf(folder, name, there));
  const notes = [
    unread.length > 0 ? `It reads the graphs ${graphNames.join(', ')}; not ${unread.join(', ')}.` : '',
    there.length > 0 && missing.length > 0 ? `There is no ${missing.join(' and no ')}.` : '',
    ...inputs,
  ].filter((note) => note !== '');
  throw new BundleError(
    [
      `${folder}: config.json says model_type ${shown(type)}; this runner knows ${familyTypes.join(', ')}.`,
      ...notes,
    ].join(' '),
  );
}

/** A sentence about the inputs of a graph that no family gives; empty where there are none. */
function inputsOf(folder: string, graph: GraphName, there: readonly string[]): string {
  const file = dtypes
    .map((dtype) => graphFile(graph, dtype))
    .find((name) => there.includes(path.basename(name)));
  if (file === undefined) return '';
  try {
    const names = describeModel(readModel(path.join(folder, file))).inputs.map(({ name }) => name);
    const unknown = names.filter((name) => !graphInputs[graph].includes(name) && !CACHE.test(name));
    return unknown.length > 0 ? `${graph} takes ${unknown.join(', ')}, which it cannot give.` : '';
  } catch (error) {
    if (OnnxGraphError.isInstance(error)) return `${graph} cannot be read: ${error.message}`;
    throw error;
  }
}
