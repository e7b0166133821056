/** Inputs of the three graphs that this runner can give, whatever the family. */
import type { GraphName } from './dtypes.js';

const INPUTS: Readonly<Record<GraphName, readonly string[]>> = {
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

/** What the names of a cache's inputs begin with. */
export const PAST: string = 'past_key_values.';

/** Of a graph's inputs those that this runner does not know. */
export function unknownInputs(graph: GraphName, inputs: readonly { readonly name: string }[]): string[] {
  const names = inputs.map(({ name }) => name).filter((name) => !INPUTS[graph].includes(name));
  return graph === 'decoder_model_merged' ? names.filter((name) => !name.startsWith(PAST)) : names;
}
