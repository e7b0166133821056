export {
  BundleError,
  DisposedError,
  IdentityCheckError,
  ImageError,
  PlatformError,
  PromptError,
  UnsupportedReducerError,
  WorkerError,
} from './errors.js';
export { readImage } from './image-files.js';
export { Lvlm } from './lvlm.js';
export type {
  Dtype,
  GeneratedToken,
  GenerateOptions,
  GenerateResult,
  ImageInput,
  ImageReport,
  LoadOptions,
  LvlmInfo,
  Memory,
  RawImage,
  Region,
  StageReport,
  Timings,
} from './types.js';
