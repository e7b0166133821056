export { applyPlan, select } from './apply-plan.js';
export { tfjsBackend } from './backend.js';
export { BackendUnavailableError } from './errors.js';
export { loadBackend } from './load-backend.js';
export type {
  BackendAttempt,
  BackendName,
  BackendProblem,
  LoadBackendOptions,
  LoadedBackend,
} from './load-backend.js';
export { reduce, reduceBatch, reducePadded } from './reduce.js';
export type { BatchTensors, ImageTensors, LayerAttention, PaddedReduction, Reduction } from './reduce.js';
