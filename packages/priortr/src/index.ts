export { priortr, priortrEntry } from './priortr.js';
export type { PriortrOptions } from './priortr.js';
