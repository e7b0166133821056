/** What this package needs to know of a model of transformers.js, and whether it is one. */
import { InvalidArgumentError, type TowerLayers } from '@foveate/core';
import type { PreTrainedModel, Tensor } from '@huggingface/transformers';
import type { InferenceSession } from 'onnxruntime-common';
import { UnsupportedModelError } from './errors.js';

/** The graphs of a LLaVA, by the names that transformers.js has for them. */
const GRAPHS = ['vision_encoder', 'embed_tokens', 'decoder_model_merged'] as const;

/** Keys and values of tokens that the decoder read, each a tensor of its own name. */
export interface Cache {
  get_seq_length(): number;
}

/** What `forward` is called with. */
export interface ForwardInputs {
  /** [B, S] int64 */
  readonly input_ids?: Tensor | null;
  /** [B, cached + S] int64 */
  readonly attention_mask?: Tensor | null;
  /** [images, 3, height, width] float32 */
  readonly pixel_values?: Tensor | null;
  /** [B, S, D] */
  readonly inputs_embeds?: Tensor | null;
  readonly position_ids?: Tensor | null;
  readonly past_key_values?: Cache | null;
  readonly [name: string]: unknown;
}

/** What `forward` gives: logits and the cache's new tensors. */
export type ForwardOutputs = Readonly<Record<string, Tensor>>;

/** Runs the model on a prompt, or on one more token. */
export type Forward = (inputs: ForwardInputs) => Promise<ForwardOutputs>;

/** A loaded LLaVA. */
export interface Llava {
  readonly model: PreTrainedModel;
  /** The model's own encoder. */
  readonly session: InferenceSession;
  readonly layers: TowerLayers;
  readonly imageTokenId: number;
  /** Pixels of a side of a patch. */
  readonly patchSize: number;
  /** Pixels of a side of the picture that the encoder was trained with. */
  readonly imageSize: number;
  /** How much a feature may differ between two ways to compute it, as a share of the largest. */
  readonly tolerance: number;
}

/**
 * Reads what there is to know of a model.
 * @throws InvalidArgumentError where it is no loaded model; UnsupportedModelError where it is no LLaVA
 */
export function readLlava(model: unknown): Llava {
  const { forward, sessions, config, encode_text } = Object(model) as Partial<PreTrainedModel>;
  if (typeof forward !== 'function' || !isRecord(sessions) || !isRecord(config)) {
    throw new InvalidArgumentError(
      'model',
      model,
      'a model that transformers.js has loaded, as LlavaForConditionalGeneration.from_pretrained() returns one',
    );
  }
  const own = config as Record<string, unknown>;
  const missing = GRAPHS.filter((name) => !Object.hasOwn(sessions, name));
  if (own.model_type !== 'llava' || missing.length > 0 || typeof encode_text !== 'function') {
    const found = missing.length > 0 ? ` without ${missing.join(', ')}` : '';
    throw new UnsupportedModelError(
      `The model is ${String(own.model_type)}${found}; only models whose config.json says "model_type": "llava" can be reduced here. @foveate/lvlm runs other families.`,
    );
  }
  const session = sessions.vision_encoder as InferenceSession & { readonly config?: { dtype?: unknown } };
  return {
    model: model as PreTrainedModel,
    session,
    ...readConfig(own),
    // An encoder of fewer bits rounds more where a fused operator was taken apart.
    tolerance: session.config?.dtype === 'fp32' ? 1e-4 : 2e-2,
  };
}

/** Defaults are those of CLIPVisionConfig, which configs of older libraries leave out. */
function readConfig(config: Record<string, unknown>): Omit<Llava, 'model' | 'session' | 'tolerance'> {
  const vision = Object(config.vision_config) as Record<string, unknown>;
  const text = Object(config.text_config) as Record<string, unknown>;
  const count = (value: unknown, byDefault: number): number =>
    Number.isSafeInteger(value) ? (value as number) : byDefault;
  const imageTokenId = count(config.image_token_index ?? config.image_token_id, -1);
  if (imageTokenId < 0) throw new UnsupportedModelError('config.json of the model has no image_token_index.');
  return {
    layers: { vision: count(vision.num_hidden_layers, 12), language: count(text.num_hidden_layers, 0) },
    imageTokenId,
    patchSize: count(vision.patch_size, 32),
    imageSize: count(vision.image_size, 224),
  };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
