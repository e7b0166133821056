/** What a decoder's inputs and outputs say of it. */
import { UnsupportedReducerError } from '@foveate/core';
import type { ModelDescription, TensorDescription } from '@foveate/onnx-graph';
import { graphInputs } from '../bundle/graph-inputs.js';
import { BundleError } from '../platform/errors.js';
import type { LayerState, ModelDimensions } from './api.js';

const PAST = 'past_key_values.';
const PRESENT = 'present.';
/** Keys and values grow with the tokens. */
const CACHE = /^past_key_values\.(\d+)\.(?:key|value)$/;
/** States do not: past_conv.0 (LFM2), past_recurrent.0 (Qwen3.5), past_ssm.0 (Mamba) ... */
const STATE = /^past_[a-z_]+\.(\d+)/;

/**
 * Reads the caches of a decoder.
 * @throws BundleError where there are inputs that this runner cannot give, or no cache
 */
export function readDimensions({ inputs, outputs }: ModelDescription): ModelDimensions {
  const outputNames = new Set(outputs.map(({ name }) => name));
  const caches = inputs.filter(({ name }) => CACHE.test(name));
  const rest = inputs.filter(
    ({ name }) => !CACHE.test(name) && !graphInputs.decoder_model_merged.includes(name),
  );
  const states = rest.map((input) => stateOf(input, outputNames));
  const cachedLayers = layersOf(CACHE, caches);
  const layers = Math.max(-1, ...cachedLayers, ...layersOf(STATE, rest)) + 1;
  const first = caches.at(0);
  const [, kvHeads, , headDim] = first?.shape ?? [];
  const type = first?.type;
  const missing = firstMissing(cachedLayers, new Set(inputs.map(({ name }) => name)), outputNames);
  if (
    missing !== undefined ||
    typeof kvHeads !== 'number' ||
    typeof headDim !== 'number' ||
    (type !== 'float32' && type !== 'float16')
  ) {
    throw new BundleError(
      `decoder_model_merged is no decoder with a cache: it has ${missing === undefined ? 'no past_key_values.{layer}.{key,value} [batch, heads, length, size] of float32 or float16' : `no ${missing}`}.`,
    );
  }
  return { layers, cachedLayers, states, kvHeads, headDim, kvBytes: type === 'float32' ? 4 : 2 };
}

/**
 * Whether visual tokens can be dropped or changed between two layers.
 * @throws UnsupportedReducerError where layers keep something else than keys and values
 */
export function checkPatchable({ layers, cachedLayers, states }: ModelDimensions): void {
  if (states.length === 0 && cachedLayers.length === layers) return;
  const what =
    states.length === 0
      ? 'some of its layers have no keys and values of their own'
      : `some of its layers have a recurrent cache (${states[0].past}), which holds something of every token that came before`;
  throw new UnsupportedReducerError(
    `Reducers inside the language model cannot run with this one: ${what}. Choose one that acts in the vision encoder or on its features.`,
  );
}

/** Ascending. */
function layersOf(pattern: RegExp, inputs: readonly TensorDescription[]): number[] {
  const layers = inputs.map(({ name }) => Number(pattern.exec(name)?.[1]));
  return [...new Set(layers)].sort((a, b) => a - b);
}

/** @throws BundleError where the input is no state of a fixed size */
function stateOf({ name, type, shape }: TensorDescription, outputs: ReadonlySet<string>): LayerState {
  const present = name.startsWith(PAST) ? PRESENT + name.slice(PAST.length) : name.replace('past', 'present');
  const dims = shape?.map((size, axis) => (axis === 0 ? 1 : size)); // the batch
  if (
    STATE.test(name) &&
    outputs.has(present) &&
    (type === 'float32' || type === 'float16') &&
    dims?.every((size) => typeof size === 'number')
  ) {
    return { past: name, present, type, dims };
  }
  throw new BundleError(`decoder_model_merged needs the input ${name}, which this runner does not know.`);
}

/** The first input or output that there should be. */
function firstMissing(
  cachedLayers: readonly number[],
  inputs: ReadonlySet<string>,
  outputs: ReadonlySet<string>,
): string | undefined {
  const names = cachedLayers.flatMap((layer) => [`${layer}.key`, `${layer}.value`]);
  return [
    ...['inputs_embeds', ...names.map((name) => PAST + name)].filter((name) => !inputs.has(name)),
    ...['logits', ...names.map((name) => PRESENT + name)].filter((name) => !outputs.has(name)),
  ].at(0);
}
