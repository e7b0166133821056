import type { GenerateOptions, GenerateResult, LoadOptions, LvlmInfo } from './types.js';

/** A loaded model. Calls run one after the other in a worker thread; the caller's event loop stays free. */
export declare class Lvlm implements AsyncDisposable {
  readonly info: LvlmInfo;
  /**
   * Loads a bundle from a folder.
   * @throws BundleError, PlatformError
   */
  static load(directory: string, options?: LoadOptions): Promise<Lvlm>;
  /**
   * Answers one prompt. Calls wait for earlier ones.
   * @throws ImageError, PromptError, UnsupportedReducerError, WorkerError, DisposedError, and what a reducer throws
   */
  generate(options: GenerateOptions): Promise<GenerateResult>;
  /** Ends the worker and frees the model. Waiting and later calls reject with DisposedError. Idempotent. */
  dispose(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}
