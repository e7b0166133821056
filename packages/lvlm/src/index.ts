export {
  BundleError,
  DisposedError,
  IdentityCheckError,
  ImageError,
  PlatformError,
  PromptError,
  UnsupportedReducerError,
  WorkerError,
} from './platform/errors.js';
export { readImage } from './platform/image-files.js';
export { Lvlm } from './caller/lvlm.js';
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
} from './caller/types.js';
