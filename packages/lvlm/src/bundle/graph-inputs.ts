/** Inputs of the three graphs that this runner can give, whatever the family. */
import type { GraphName } from './dtypes.js';

/** By graph; the decoder's caches aside. */
export const graphInputs: Readonly<Record<GraphName, readonly string[]>> = {
  vision_encoder: ['pixel_values', 'pixel_attention_mask', 'grid_thw', 'image_grid_thw'],
  embed_tokens: ['input_ids'],
  decoder_model_merged: [
    'inputs_embeds',
    'attention_mask',
    'position_ids',
    'num_logits_to_keep',
    'use_cache_branch',
  ],
};
