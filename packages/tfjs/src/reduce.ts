import {
  checkReducer,
  createBackendTokens,
  InvalidArgumentError,
  mapGives,
  planTokens,
  requestsOf,
  signalId,
  withWarnings,
  type AttentionTensor,
  type Grid,
  type ReductionPlan,
  type SignalRequest,
  type TensorSignal,
  type TokenReducer,
} from '@foveate/core';
import * as tf from '@tensorflow/tfjs-core';
import { applyPlan } from './apply-plan.js';
import { meanOverHeads, tfjsBackend } from './backend.js';
import { checkTensor, disposeAll } from './tensors.js';

/** One image's tensors, float32. They stay the caller's, and must live until the reduction is done. */
export interface ImageTensors {
  /** [N, D] or [1, N, D], CLS excluded. */
  readonly features: tf.Tensor;
  /**
   * [H, S, S] or [1, H, S, S] after softmax, S = N, or N + 1 with CLS first: of the layer that made the
   * features, or one for each of several layers. Default: none.
   */
  readonly attention?: tf.Tensor | readonly LayerAttention[];
  /**
   * Signals at hand, of any layers, e.g. `{ ...keys(), values }` of [N, D] or [1, N, D]; they go before what
   * `attention` would give. Default: none.
   */
  readonly signals?: readonly TensorSignal<tf.Tensor>[];
  /** The tokens' grid, row-major. Default: none, for reducers that need none. */
  readonly grid?: Grid;
  /** The seed of anything random. Default: the empty string. */
  readonly imageHash?: string;
}

/** The attention map of one layer. */
export type LayerAttention = Pick<AttentionTensor<tf.Tensor>, 'layer' | 'values'>;

/** The tensors of B images of one size: those of {@link ImageTensors} with a batch axis in front. */
export interface BatchTensors {
  /** [B, N, D] */
  readonly features: tf.Tensor;
  /** [B, H, S, S], of one layer or of several. */
  readonly attention?: tf.Tensor | readonly LayerAttention[];
  /** [B, N] or [B, N, D] */
  readonly signals?: readonly TensorSignal<tf.Tensor>[];
  /** See {@link ImageTensors}. */
  readonly grid?: Grid;
  /** One an image. Default: their numbers, `'0'`, `'1'`, ... */
  readonly imageHashes?: readonly string[];
}

/** A reduced image. */
export interface Reduction {
  /** [M, D], the caller's to dispose. */
  readonly features: tf.Tensor2D;
  /** What was kept or merged; its warnings say what the user should know. */
  readonly plan: ReductionPlan;
}

/** Reduced images in one tensor. */
export interface PaddedReduction {
  /**
   * [B, M, D], M that of the image with most tokens; zeros behind the tokens of the others. The caller's to
   * dispose.
   */
  readonly features: tf.Tensor3D;
  /** [B, M] bool: true where there is a token. The caller's to dispose. */
  readonly mask: tf.Tensor2D;
  /** One an image. */
  readonly plans: readonly ReductionPlan[];
}

/**
 * Reduces one image's tokens where their tensors are: the reducer's signals are read there, its plan is
 * applied there. A reducer of several sites plans as at its first.
 * @throws InvalidArgumentError on tensors that do not fit; whatever error of Foveate the reducer throws. No
 * tensor is left behind.
 * @example
 * const { features, plan } = await reduce(fopruRank({ keepRatio: 0.25 }), { features: tokens, attention: map });
 */
export async function reduce(reducer: TokenReducer, tensors: ImageTensors): Promise<Reduction> {
  checkReducer('reducer', reducer);
  const { grid, imageHash } = tensors;
  const owned: tf.Tensor[] = [];
  const flat = (name: string, tensor: tf.Tensor): tf.Tensor => {
    const view = withoutBatch(name, tensor);
    owned.push(view);
    return view;
  };
  try {
    const features = flat('features', tensors.features);
    const length = features.shape[0];
    const attention = layersOf(tensors.attention).map(({ layer, values }) => {
      checkLength('attention', values, -1, [length, length + 1]);
      return {
        ...(layer !== undefined && { layer }),
        values,
        classToken: values.shape.at(-1) === length + 1,
      };
    });
    const signals = (tensors.signals ?? []).map((signal) => flatSignal(signal, length, flat));
    const tokens = createBackendTokens(tfjsBackend, {
      length,
      attention,
      signals,
      ...(grid && { grid }),
      ...(imageHash !== undefined && { imageHash }),
    });
    const plan = withWarnings(await planTokens(reducer, tokens), approximations(reducer, attention, signals));
    return { features: applyPlan(features, plan), plan };
  } finally {
    disposeAll(owned);
  }
}

function layersOf(attention: ImageTensors['attention']): readonly LayerAttention[] {
  if (attention === undefined) return [];
  return attention instanceof tf.Tensor ? [{ values: attention }] : attention;
}

/** [1, N, D] as [N, D]; vectors stay. */
function flatSignal(
  signal: TensorSignal<tf.Tensor>,
  length: number,
  flat: (name: string, tensor: tf.Tensor) => tf.Tensor,
): TensorSignal<tf.Tensor> {
  const name = signalId(signal);
  checkTensor(name, signal.values, [1, 2, 3], '[N], [N, D] or [1, N, D]');
  if (signal.signal.shape.join() !== 'N,D') return signal;
  const values = flat(name, signal.values);
  checkLength(name, values, 0, [length]);
  return { ...signal, values };
}

/**
 * Reduces each image of a batch on its own, so that they may keep different numbers of tokens.
 * @returns one an image
 * @throws as {@link reduce}; where one image fails all fail, and no tensor is left behind
 */
export async function reduceBatch(reducer: TokenReducer, batch: BatchTensors): Promise<Reduction[]> {
  checkReducer('reducer', reducer);
  const images = splitBatch(batch, reducer);
  const results = await Promise.allSettled(images.map((image) => reduce(reducer, image)));
  disposeAll(images.flatMap(imageTensors));
  const reductions = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  const failure = results.find((result) => result.status === 'rejected');
  if (!failure) return reductions;
  disposeAll(reductions.map(({ features }) => features));
  throw failure.reason;
}

/**
 * As {@link reduceBatch}, in one tensor with a mask.
 * @throws as {@link reduceBatch}
 */
export async function reducePadded(reducer: TokenReducer, batch: BatchTensors): Promise<PaddedReduction> {
  const reductions = await reduceBatch(reducer, batch);
  const plans = reductions.map(({ plan }) => plan);
  const lengths = plans.map(({ outputLength }) => outputLength);
  const most = Math.max(...lengths);
  const mask = Uint8Array.from({ length: lengths.length * most }, (_, i) =>
    i % most < lengths[Math.floor(i / most)] ? 1 : 0,
  );
  try {
    const features = tf.tidy(() =>
      tf.stack(
        reductions.map(({ features }) =>
          tf.pad(features, [
            [0, most - features.shape[0]],
            [0, 0],
          ]),
        ),
      ),
    ) as tf.Tensor3D;
    return { features, mask: tf.tensor2d(mask, [lengths.length, most], 'bool'), plans };
  } finally {
    disposeAll(reductions.map(({ features }) => features));
  }
}

/** [1, N, D] as [N, D]; a view, no copy. */
function withoutBatch(name: string, tensor: tf.Tensor): tf.Tensor {
  checkTensor(name, tensor, [2, 3], '[N, D] or [1, N, D]');
  if (tensor.rank === 3 && tensor.shape[0] !== 1) {
    throw new InvalidArgumentError(
      `${name}.shape`,
      tensor.shape,
      '[N, D] or [1, N, D]; reduceBatch takes more',
    );
  }
  return tf.reshape(tensor, tensor.shape.slice(-2));
}

function checkLength(
  name: string,
  tensor: tf.Tensor | undefined,
  axis: number,
  lengths: readonly number[],
): void {
  if (!tensor) return;
  checkTensor(name, tensor, [2, 3, 4], 'see its documentation');
  if (lengths.includes(tensor.shape.at(axis) ?? 0)) return;
  throw new InvalidArgumentError(
    `${name}.shape`,
    tensor.shape,
    `of ${lengths.join(' or ')} tokens, as features`,
  );
}

/** What is read off maps although they give it only about so, a sentence each. */
function approximations(
  reducer: TokenReducer,
  attention: readonly LayerAttention[],
  signals: readonly TensorSignal<tf.Tensor>[],
): string[] {
  const given = new Set(signals.map(signalId));
  const layers = new Set<SignalRequest['layer']>(attention.map(({ layer = 'features' }) => layer));
  return readBy(reducer)
    .filter((request) => !given.has(signalId(request)) && layers.has(request.layer ?? 'features'))
    .flatMap((request) => mapGives(request)?.approximation ?? []);
}

function readBy({ requires, at }: TokenReducer): SignalRequest[] {
  return requestsOf(requires, at[0]);
}

/**
 * The images' tensors, each with its own batch axis of 1; of those that not every reducer reads, what this
 * one does.
 */
function splitBatch(batch: BatchTensors, reducer: TokenReducer): ImageTensors[] {
  const size = checkBatch(batch);
  const { features, attention, signals = [], grid, imageHashes } = batch;
  const requests = readBy(reducer);
  const required = new Set(requests.map(signalId));
  const layersRead = new Set(requests.filter((request) => mapGives(request)).map(({ layer }) => layer));
  const maps = layersOf(attention).filter(({ layer = 'features' }) => layersRead.has(layer));
  const read = signals.filter((signal) => required.has(signalId(signal)));
  const images = (tensor: tf.Tensor): tf.Tensor[] =>
    Array.from({ length: size }, (_, index) => tf.slice(tensor, index, 1));
  const cut = tf.tidy(() => ({
    features: images(features),
    // Averaged before they are cut, since cutting copies.
    attention: maps.map(({ values }) => images(meanOverHeads(values as tf.Tensor4D))),
    signals: read.map(({ signal, values }) =>
      images(values).map((part) => (signal.shape.length === 1 ? tf.reshape(part, [-1]) : part)),
    ),
  }));
  return Array.from({ length: size }, (_, index) => ({
    features: cut.features[index],
    attention: maps.map((map, m) => ({ ...map, values: cut.attention[m][index] })),
    signals: read.map((signal, s) => ({ ...signal, values: cut.signals[s][index] })),
    ...(grid && { grid }),
    imageHash: imageHashes?.[index] ?? String(index),
  }));
}

/** How many images there are. */
function checkBatch({ features, attention, signals = [], imageHashes }: BatchTensors): number {
  checkTensor('features', features, [3], '[B, N, D]');
  const [size, length] = features.shape;
  for (const { values } of layersOf(attention)) {
    checkTensor('attention', values, [4], '[B, H, S, S]');
    const [, heads, rows, columns] = values.shape;
    if (heads < 1 || rows !== columns || ![length, length + 1].includes(rows)) {
      const expected = `[B, H, S, S], S = ${length} or, with CLS, ${length + 1}`;
      throw new InvalidArgumentError('attention.shape', values.shape, expected);
    }
    checkImages('attention', values, size);
  }
  for (const signal of signals) {
    checkTensor(signalId(signal), signal.values, [2, 3], '[B, N] or [B, N, D]');
    checkImages(signalId(signal), signal.values, size);
  }
  if (size < 1)
    throw new InvalidArgumentError('features.shape', features.shape, '[B, N, D] of at least one image');
  if (imageHashes && imageHashes.length !== size) {
    throw new InvalidArgumentError('imageHashes', imageHashes, `one for each of ${size} images`);
  }
  return size;
}

function checkImages(name: string, { shape }: tf.Tensor, size: number): void {
  if (shape[0] === size) return;
  throw new InvalidArgumentError(`${name}.shape`, shape, `of ${size} images, as features`);
}

function imageTensors({ features, attention, signals = [] }: ImageTensors): tf.Tensor[] {
  return [features, ...layersOf(attention), ...signals].map((held) =>
    'values' in held ? held.values : held,
  );
}
