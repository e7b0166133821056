import {
  checkReducer,
  createTensorTokens,
  InvalidArgumentError,
  signalId,
  withWarnings,
  type EncoderLayer,
  type Grid,
  type ReductionPlan,
  type TensorSignal,
  type TokenReducer,
} from '@foveate/core';
import * as tf from '@tensorflow/tfjs-core';
import { applyPlan } from './apply-plan.js';
import { meanOverHeads, tfjsBackend } from './backend.js';
import { checkTensor, disposeAll } from './tensors.js';

/** What is read off an attention map. */
const ATTENTION_SIGNALS = ['attentionGiven', 'attentionReceived', 'classAttention'];

/** One image's tensors, float32. They stay the caller's, and must live until the reduction is done. */
export interface ImageTensors {
  /** [N, D] or [1, N, D], CLS excluded. */
  readonly features: tf.Tensor;
  /** [H, L, L] or [1, H, L, L] after softmax, L = N, or N + 1 with CLS first. Default: none, for reducers that do not read it. */
  readonly attention?: tf.Tensor;
  /** [N, C] or [1, N, C], the heads side by side, CLS excluded. Default: none, for reducers that do not read them. */
  readonly keys?: tf.Tensor;
  /** The encoder layer of `attention` and `keys`, for reducers that ask for another one. Default `'features'`. */
  readonly layer?: EncoderLayer;
  /** Signals at hand, e.g. `{ signal: 'classAttention', values }`; they go before what `attention` and `keys` would give. Default: none. */
  readonly signals?: readonly TensorSignal<tf.Tensor>[];
  /** The tokens' grid, row-major. Default: none, for reducers that need none. */
  readonly grid?: Grid;
  /** The image's hash: the seed of anything random. Default: the empty string. */
  readonly key?: string;
}

/** The tensors of B images of one size: those of {@link ImageTensors} with a batch axis in front. */
export interface BatchTensors {
  /** [B, N, D] */
  readonly features: tf.Tensor;
  /** [B, H, L, L] */
  readonly attention?: tf.Tensor;
  /** [B, N, C] */
  readonly keys?: tf.Tensor;
  /** See {@link ImageTensors}. */
  readonly layer?: EncoderLayer;
  /** See {@link ImageTensors}. */
  readonly grid?: Grid;
  /** One an image. Default: their numbers, `'0'`, `'1'`, ... */
  readonly imageKeys?: readonly string[];
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
  /** [B, M, D], M that of the image with most tokens; zeros behind the tokens of the others. The caller's to dispose. */
  readonly features: tf.Tensor3D;
  /** [B, M] bool: true where there is a token. The caller's to dispose. */
  readonly mask: tf.Tensor2D;
  /** One an image. */
  readonly plans: readonly ReductionPlan[];
}

/**
 * Reduces one image's tokens where their tensors are: the reducer's signals are read there, its plan is applied there.
 * @throws InvalidArgumentError on tensors that do not fit; whatever error of Foveate the reducer throws. No tensor is left behind.
 */
export async function reduce(reducer: TokenReducer, tensors: ImageTensors): Promise<Reduction> {
  checkReducer('reducer', reducer);
  const { grid, key, layer, signals } = tensors;
  for (const signal of signals ?? []) checkTensor(signalId(signal), signal.values, [1, 2], '[N] or [N, C]');
  const owned: tf.Tensor[] = [];
  const flat = (name: 'features' | 'keys', tensor: tf.Tensor): tf.Tensor => {
    const view = withoutBatch(name, tensor);
    owned.push(view);
    return view;
  };
  try {
    const features = flat('features', tensors.features);
    const keys = tensors.keys && flat('keys', tensors.keys);
    const length = features.shape[0];
    checkLength('keys', keys, 0, [length]);
    checkLength('attention', tensors.attention, -1, [length, length + 1]);
    const tokens = createTensorTokens(tfjsBackend, {
      length,
      ...(grid && { grid }),
      ...(key !== undefined && { key }),
      ...(layer !== undefined && { layer }),
      ...(signals && { signals }),
      ...(keys && { keys }),
      ...(tensors.attention && {
        attention: tensors.attention,
        classToken: tensors.attention.shape.at(-1) === length + 1,
      }),
    });
    const plan = withWarnings(await reducer.plan(tokens), classAttentionWarnings(reducer, tensors));
    return { features: applyPlan(features, plan), plan };
  } finally {
    disposeAll(owned);
  }
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

/** A map has one CLS row a head, and the methods' official code computes one for all channels. */
function classAttentionWarnings(
  { requires }: TokenReducer,
  { attention, signals = [] }: ImageTensors,
): string[] {
  const given = new Set(signals.map(signalId));
  const read = requires.some(
    (request) => request.signal === 'classAttention' && !given.has(signalId(request)),
  );
  return attention && read
    ? [
        'class attention is the mean over heads of the attention map, not the attention of one head over all channels',
      ]
    : [];
}

/** The images' tensors, each with its own batch axis of 1; of those that not every reducer reads, what this one does. */
function splitBatch(batch: BatchTensors, { requires }: TokenReducer): ImageTensors[] {
  const size = checkBatch(batch);
  const { features, attention, keys, layer, grid, imageKeys } = batch;
  const required = new Set<string>(requires.map(({ signal }) => signal));
  const readsMap = ATTENTION_SIGNALS.some((signal) => required.has(signal));
  const image = (tensor: tf.Tensor, index: number): tf.Tensor => tf.slice(tensor, index, 1);
  return tf.tidy(() => {
    // Averaged before it is cut, since cutting copies.
    const map = attention && readsMap ? meanOverHeads(attention as tf.Tensor4D) : undefined;
    return Array.from({ length: size }, (_, index) => ({
      features: image(features, index),
      ...(map && { attention: image(map, index) }),
      ...(keys && required.has('keys') && { keys: image(keys, index) }),
      ...(layer !== undefined && { layer }),
      ...(grid && { grid: { ...grid } }),
      key: imageKeys?.[index] ?? String(index),
    }));
  });
}

/** How many images there are. */
function checkBatch({ features, attention, keys, imageKeys }: BatchTensors): number {
  checkTensor('features', features, [3], '[B, N, D]');
  const [size, length] = features.shape;
  if (attention) {
    checkTensor('attention', attention, [4], '[B, H, L, L]');
    const [, heads, rows, columns] = attention.shape;
    if (heads < 1 || rows !== columns || ![length, length + 1].includes(rows)) {
      const expected = `[B, H, L, L], L = ${length} or, with CLS, ${length + 1}`;
      throw new InvalidArgumentError('attention.shape', attention.shape, expected);
    }
  }
  if (keys) checkTensor('keys', keys, [3], '[B, N, C]');
  for (const [name, tensor] of Object.entries({ attention, keys })) {
    if (tensor && tensor.shape[0] !== size) {
      throw new InvalidArgumentError(`${name}.shape`, tensor.shape, `of ${size} images, as features`);
    }
  }
  if (size < 1)
    throw new InvalidArgumentError('features.shape', features.shape, '[B, N, D] of at least one image');
  if (imageKeys && imageKeys.length !== size) {
    throw new InvalidArgumentError('imageKeys', imageKeys, `one for each of ${size} images`);
  }
  return size;
}

function imageTensors({ features, attention, keys }: ImageTensors): tf.Tensor[] {
  return [features, attention, keys].filter((tensor) => tensor !== undefined);
}
