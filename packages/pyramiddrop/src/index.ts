export { pyramiddrop, pyramiddropEntry } from './pyramiddrop.js';
export type { PyramiddropOptions } from './pyramiddrop.js';
