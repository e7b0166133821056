export { sparsevlm, sparsevlmEntry } from './sparsevlm.js';
export type { SparsevlmOptions } from './sparsevlm.js';
