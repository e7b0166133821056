export { backendConformance } from './backend-conformance.js';
export type { BackendConformanceOptions } from './backend-conformance.js';
export { ConformanceError } from './conformance-case.js';
export type { ConformanceCase } from './conformance-case.js';
export { reducerConformance } from './reducer-conformance.js';
export type { ReducerConformanceOptions } from './reducer-conformance.js';
export { onBackend } from './on-backend.js';
export { reductionConformance } from './reduction-conformance.js';
export type { ReductionConformanceOptions } from './reduction-conformance.js';
