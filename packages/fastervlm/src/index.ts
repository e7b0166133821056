export { fastervlm, fastervlmEntry } from './fastervlm.js';
export type { FastervlmOptions } from './fastervlm.js';
