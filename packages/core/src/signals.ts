import { InvalidSignalError } from './errors.js';

/**
 * An encoder layer. `'features'`: the one whose output makes the features (LLaVA's `vision_feature_layer`), which in an
 * exported graph is the attention nearest upstream of the projector. `'last'`: the encoder's very last one, which
 * exports often lack. A number counts layers from 0.
 */
export type EncoderLayer = 'features' | 'last' | number;

/**
 * A signal of one image from its vision encoder, N visual tokens, CLS excluded and rows NOT renormalised:
 * - `attentionGiven` [N], the mean over heads and keys j of attention[h, i, j] (FoPru, Eq. 2).
 * - `attentionReceived` [N], the mean over heads and queries i of attention[h, i, j] (FoPru, Eq. 3).
 * - `classAttention` [N], softmax(q_CLS . K^T / sqrt(D))[1:] over all D channels as ONE head (PruMerge's official code);
 *   where only a per-head attention map is to be had, the mean over heads of the CLS row, and whoever provides it says so in
 *   the plan's warnings.
 * - `keys` [N, D], the layer's key projections, heads side by side.
 */
export interface EncoderSignalRequest {
  readonly signal: 'attentionGiven' | 'attentionReceived' | 'classAttention' | 'keys';
  /** Default `'features'`. */
  readonly layer?: EncoderLayer;
}

/**
 * `promptAttention` [V], V = all visual tokens of the prompt: how much the decoder's text attends to each, mean over
 * heads. `rows: 'last'`: from the last prompt token (FastV's official code); `'mean'`: averaged over every query position
 * after the image (FastV's paper).
 */
export interface PromptSignalRequest {
  readonly signal: 'promptAttention';
  /** Decoder layer, from 0. */
  readonly layer: number;
  readonly rows: 'last' | 'mean';
}

/**
 * `attentionShare` [encoder layers], the share of the attention received that each layer's top 25 % of tokens hold (FoPru,
 * Figure 1). About the encoder, not about a token: for reports, never for a reducer's choice.
 */
export interface ShareSignalRequest {
  readonly signal: 'attentionShare';
}

/** What a reducer may ask of the runner. A runner provides exactly what is asked, in this form. */
export type SignalRequest = EncoderSignalRequest | PromptSignalRequest | ShareSignalRequest;

/** The name of a signal, without layer or rows. */
export type SignalName = SignalRequest['signal'];

/** One string for one signal, e.g. `keys@features`, `promptAttention@2:last`: equal exactly where two requests mean the same. */
export function signalId(request: SignalRequest): string {
  switch (request.signal) {
    case 'promptAttention':
      return `promptAttention@${request.layer}:${request.rows}`;
    case 'attentionShare':
      return 'attentionShare';
    default:
      return `${request.signal}@${request.layer ?? 'features'}`;
  }
}

/**
 * Checks a signal's values against the request and the token count it is about, and returns them.
 * @param values [length]; [length, D] for `keys`; one per encoder layer for `attentionShare`
 * @throws InvalidSignalError on a wrong type or length, NaN, Infinity, or negative attention
 */
export function checkSignal(request: SignalRequest, values: Float32Array, length: number): Float32Array {
  const id = signalId(request);
  if (!(values instanceof Float32Array)) throw new InvalidSignalError(id, 'is not a Float32Array');
  const expected = expectedLength(request, values.length, length);
  if (expected !== undefined) {
    throw new InvalidSignalError(
      id,
      `has ${values.length} values instead of ${expected} for ${length} tokens`,
    );
  }
  const lowest = request.signal === 'keys' ? -Number.MAX_VALUE : 0;
  for (let i = 0; i < values.length; i++) {
    if (values[i] >= lowest && values[i] <= Number.MAX_VALUE) continue; // not so with NaN
    const negative = Number.isFinite(values[i]) ? `negative (${values[i]})` : values[i];
    throw new InvalidSignalError(id, `is ${negative} at index ${i}`);
  }
  return values;
}

/** In words, the number of values that the signal should have; undefined where `count` is right. */
function expectedLength(request: SignalRequest, count: number, length: number): string | undefined {
  switch (request.signal) {
    case 'attentionShare':
      return count > 0 ? undefined : 'one a layer';
    case 'keys':
      return count > 0 && count % length === 0 ? undefined : 'N x D';
    default:
      return count === length ? undefined : 'one a token';
  }
}
