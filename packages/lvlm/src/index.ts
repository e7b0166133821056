export {
  BundleError,
  DisposedError,
  HubError,
  IdentityCheckError,
  ImageError,
  PlatformError,
  PromptError,
  WorkerError,
} from './platform/errors.js';
export { bundleFolder, pullBundle } from './hub/bundle-folder.js';
export type { BundleOptions, DownloadProgress, HubOptions } from './hub/bundle-folder.js';
export { devices, type Device } from './platform/devices.js';
export { readImage } from './platform/image-files.js';
export { Lvlm } from './caller/lvlm.js';
export { Chat, type AskOptions, type ChatOptions } from './caller/chat.js';
export { dtypes, type Dtype, type DtypeChoice, type GraphDtypes, type GraphName } from './bundle/dtypes.js';
export type { Newlines } from './families/family.js';
export type { Region } from './bundle/preprocessing.js';
export type {
  CropReport,
  GeneratedToken,
  GenerateOptions,
  GenerateResult,
  ImageInput,
  ImageReport,
  LoadOptions,
  LvlmInfo,
  Memory,
  Message,
  RawImage,
  StepReport,
  Timings,
} from './caller/options-and-results.js';
