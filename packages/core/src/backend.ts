import type { ReductionPlan } from './plan.js';
import type { ComparedRows, SimilarityMeasure } from './row-similarity.js';

/** What is read of one layer's attention maps, mean over heads, CLS taken out and rows NOT renormalised. */
export interface AttentionMarginals {
  /** [N] mean over keys j of attention[i, j] (FoPru, Eq. 2). */
  readonly given: Float32Array;
  /** [N] mean over queries i of attention[i, j] (FoPru, Eq. 3). */
  readonly received: Float32Array;
  /** [N] the CLS row: attention[CLS, j]. Only where the map has a CLS. */
  readonly classAttention?: Float32Array;
}

/** How an attention map is laid out. */
export interface MarginalsOptions {
  /** Whether row and column 0 of the map are the CLS token's, so that N = S - 1. */
  readonly classToken: boolean;
}

/**
 * The few heavy operations, on the tensors of one library. Whoever holds the features holds the backend;
 * methods reach it only through the signals that they ask for. Every backend runs the suite
 * `backendConformance` of `@foveate/core/testing`. Tensors put out belong to the caller, who disposes them;
 * tensors put in stay the caller's.
 */
export interface TensorBackend<Tensor> {
  /** E.g. `js`, `wasm`, `tfjs-node-gpu`. */
  readonly name: string;
  /**
   * Makes a tensor from row-major data.
   * @throws InvalidArgumentError where data and shape do not fit
   */
  upload(data: Float32Array, shape: readonly number[]): Tensor;
  /** The tensor's values, row-major. */
  download(tensor: Tensor): Promise<Float32Array>;
  /** Frees a tensor; it must not be used afterwards. */
  dispose(tensor: Tensor): void;
  /**
   * Only the vectors leave the place where the map is.
   * @param attention [H, S, S] or [1, H, S, S], S = N or N + 1 (with CLS), non-negative
   * @throws InvalidArgumentError on another shape, or where no token is left; InvalidSignalError on NaN or
   * Infinity in the map
   */
  marginals(attention: Tensor, options: MarginalsOptions): Promise<AttentionMarginals>;
  /**
   * As {@link Similarity.nearest}.
   * @param rows [N, D]; a row of norm 0 has cosine 0 with every other
   * @returns [of.length, min(k, N - 1)] row-major
   * @throws InvalidArgumentError on another shape, `of` out of range, k below 1; InvalidSignalError on NaN or
   * Infinity in the rows
   */
  nearest(rows: Tensor, of: Uint32Array, k: number): Promise<Uint32Array>;
  /**
   * As {@link Similarity.cosines}, or with dot products.
   * @param rows [N, D]; a row of norm 0 has cosine 0 with every other
   * @param to indices [Q] of rows, or other rows [Q, D]
   * @returns [Q, N] row-major
   * @throws InvalidArgumentError on another shape, `to` out of range or of another width; InvalidSignalError
   * on NaN or Infinity
   */
  similarity(rows: Tensor, to: ComparedRows, measure: SimilarityMeasure): Promise<Float32Array>;
  /**
   * @param features [N, D]
   * @returns [M, D]
   * @throws InvalidArgumentError where features is not [plan.inputLength, D]
   */
  applyPlan(features: Tensor, plan: ReductionPlan): Promise<Tensor>;
}
