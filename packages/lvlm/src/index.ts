export type { Lvlm } from './lvlm.js';
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
  StageReport,
  Timings,
} from './types.js';
