/** What the cases of each method give, under the names of the official code. */

/** Numbers in float32, row-major. */
export interface CaseArray {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** The layer of the language model behind which a stage of PyramidDrop prunes, and the next one's weights. */
export interface PyramidDropLayer {
  /** Layers that came before. */
  readonly layer: number;
  /** [D, D], q = x @ q_weight^T, and k likewise. */
  readonly q_weight: CaseArray;
  readonly k_weight: CaseArray;
  /** [D] of the layer's input norm. */
  readonly input_norm_weight: CaseArray;
}

/** Inputs by method; the class token, where there is one, is position 0. */
export interface InputsOf {
  readonly visionzip: {
    /** [heads, N + 1] what the class token attends to. */
    readonly cls_attention_row: CaseArray;
    /** [N + 1, D] */
    readonly hidden_states: CaseArray;
    /** [N + 1, head width] keys, mean over heads. */
    readonly metric: CaseArray;
  };
  readonly vispruner: {
    /** [heads, N + 1] what the class token attends to. */
    readonly cls_attention_row: CaseArray;
    /** [N + 1, D] */
    readonly hidden_states: CaseArray;
  };
  readonly cdpruner: {
    /** [N, D] behind the projector. */
    readonly features: CaseArray;
    /** [N, E] the patches in the space that CLIP compares in. */
    readonly image_embeds: CaseArray;
    /** [segments, E] the question there, one row for each 77 tokens. */
    readonly text_embeds: CaseArray;
  };
  readonly hiprune: {
    /** [N + 1] mean over heads and queries of what each key is attended with, of the object layer. */
    readonly object_column_mean: CaseArray;
    /** [N + 1] the same of the deep layer. */
    readonly deep_column_mean: CaseArray;
    /** [heads, N + 1, width] where the means are those of softmax(q . k). */
    readonly object_q?: CaseArray;
    readonly object_k?: CaseArray;
    readonly deep_q?: CaseArray;
    readonly deep_k?: CaseArray;
  };
  readonly dart: {
    /** [sequence, D] output of layer 1, by the model's last norm. */
    readonly normed_hidden: CaseArray;
    /** [heads, sequence, width] keys of layer 1, rotated. */
    readonly keys: CaseArray;
  };
  readonly pyramiddrop: {
    /** [sequence, D] unchanged between the stages, but for the tokens that are gone. */
    readonly hidden: CaseArray;
    readonly layers: readonly PyramidDropLayer[];
  };
  readonly sparsevlm: {
    /** [sequence, D] at the entrance of the language model, and unchanged at every stage. */
    readonly hidden?: CaseArray;
    /** [heads, text, visual] a stage: what the tokens behind the image attend to of what is left of it. */
    readonly attention_text_to_visual_per_stage?: readonly CaseArray[];
    /** [recycled, D] and [recycled], of the case about clusters alone. */
    readonly tokens?: CaseArray;
    readonly noise?: CaseArray;
  };
}

/** Parameters by method: N patches, and where the image stands in the sequence of the language model. */
export interface ParamsOf {
  readonly visionzip: { readonly N: number; readonly dominant_num: number; readonly contextual_num: number };
  readonly vispruner: {
    readonly N: number;
    readonly visual_token_num: number;
    readonly important_ratio: number;
    readonly prune_step: number;
  };
  readonly cdpruner: { readonly N: number; readonly visual_token_num: number };
  readonly hiprune: {
    readonly N: number;
    readonly retention: number;
    readonly alpha: number;
    readonly grid_width: number;
  };
  readonly dart: {
    readonly N: number;
    readonly image_start: number;
    /** Null: by `reduction_ratio`. */
    readonly max_num_trunction: number | null;
    readonly reduction_ratio: number | null;
    readonly pivot_image: number;
    readonly pivot_text: number;
  };
  readonly pyramiddrop: {
    readonly N: number;
    readonly image_start: number;
    readonly heads: number;
    readonly head_dim: number;
    readonly layer_list: readonly number[];
    readonly ratio_list: readonly number[];
    readonly rms_eps: number;
    readonly rope_base: number;
  };
  readonly sparsevlm: {
    readonly N?: number;
    readonly image_start?: number;
    readonly layers?: readonly number[];
    readonly keep_list?: readonly number[];
    readonly scale?: number;
    readonly bias?: number;
    readonly cluster_num?: number;
  };
}
