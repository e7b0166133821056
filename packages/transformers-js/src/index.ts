export { UnsupportedCallError, UnsupportedModelError, VisionEncoderError } from './errors.js';
export { reduceVisualTokens } from './reduce-visual-tokens.js';
export type { ReduceOptions, ReductionReport, VisualTokenReduction } from './reduce-visual-tokens.js';
